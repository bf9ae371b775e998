"""What processes export for Prometheus: the registry they begin with, how it is written out, and
the catalogue of all of it.

`tapeline.metrics.registry` and `tapeline.metrics.exposition` are for the processes. The others look
at all three of them from outside, to document and to check.
"""
