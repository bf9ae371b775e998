"""Binance spot: wire types, decimals, addresses and the assembler of its market data."""
