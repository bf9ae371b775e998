"""Coinbase Advanced Trade: wire types, addresses and the assembler of its market data."""
