"""Local services as supervised children: what `tapeline dev`, tests and benchmarks run on."""
