"""Figures, each as a ratio to a baseline or a peer of the same run."""
