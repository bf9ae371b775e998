"""Programs to read, run and take over."""
