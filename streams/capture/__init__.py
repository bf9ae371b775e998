"""Recordings of what a venue sent: reading, writing, playing and checking them."""
