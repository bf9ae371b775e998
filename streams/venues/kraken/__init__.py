"""Kraken spot, websocket v2: wire types, checksums, addresses and the assembler of its market data."""
