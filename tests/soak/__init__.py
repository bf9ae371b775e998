"""Whole houses for half an hour: every component restarted in turn, and more load than they can take."""
