"""``python -m streams.simulator``."""

from streams.simulator.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
