"""One package a venue, each with the same rooms: schema, assembler, urls."""
