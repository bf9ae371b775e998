"""Pure state and maths: books, windows, findings, the engine of one symbol, the report."""
