"""Renders ``docs/configuration.md`` from the settings: ``python -m tapeline.config_docs FILE``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from tapeline.config import Settings, allowed, variable_name
from tapeline.config_security import SECRET_FIELDS

_INTRO = """\
# Configuration

Every setting is an environment variable. `tapeline config` prints what this environment gives,
secrets masked. A bad value names the variable, what it holds and what is allowed, and the
process exits with status 2; a variable that begins with `NT_` and is no setting is warned
about, with the nearest name that is one.

What holds a secret ({secrets}) may also be in a file: `NAME_FILE` names it.

This page is generated from `tapeline/config.py` by `make docs`.

| variable | default | allowed | what it does |
|---|---|---|---|
"""


def _default(info: FieldInfo) -> str:
    value = info.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value == "":
        return "(empty)"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def render() -> str:
    """The whole page."""
    # Fields of parts come first in the model, and read better last.
    fields = sorted(Settings.model_fields.items(), key=lambda field: field[0].startswith("hub_"))
    rows = [
        f"| `{variable_name(name)}` | {_default(info)} | {_cell(allowed(info))} "
        f"| {_cell(info.description or '')} |"
        for name, info in fields
    ]
    secrets = ", ".join(f"`{variable_name(name)}`" for name in SECRET_FIELDS)
    return _INTRO.format(secrets=secrets) + "\n".join(rows) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render())
