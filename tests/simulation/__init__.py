"""A seeded simulator of the coordination protocol: the product's classes, and nothing real under them.

Time is virtual, Redis and Kafka are models, the network is a queue; nodes are loops of their own that
can be paused, killed and given a wrong clock. The same seed makes the same history.
"""
