"""``python -m supply_chain.validate FILE``: an SBOM against the published schema.

Run by the tools' own environment (requirements/tools.txt), which has the schemas.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator


def main(path: str) -> int:
    """0 where it is valid, else 1 and why."""
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(Path(path).read_text())
    if error is not None:
        sys.stderr.write(f"supply-chain: {path} is not valid CycloneDX 1.6: {error}\n")
        return 1
    sys.stderr.write(f"supply-chain: {path} is valid CycloneDX 1.6\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
