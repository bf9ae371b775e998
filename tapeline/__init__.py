"""The product itself: commands, settings, errors, clock, logs, and the local stack."""
