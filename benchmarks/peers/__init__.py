"""Other stream processors on the same topic, each a program of its own.

They see `tables` and `streams` by ``PYTHONPATH`` and nothing else of the product: what they run
beside is their own library, in an environment of its own (``requirements/bench.txt``).
"""
