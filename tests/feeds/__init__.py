"""Bridges under every fault that the simulated venues have, held against those venues' own books."""
