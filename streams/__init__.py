"""Every conversation with a venue: events, topics, symbols, the bridge, captures."""
