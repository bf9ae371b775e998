"""Readers of Redis: the HTTP API. Runs without Kafka."""
