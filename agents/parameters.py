"""From settings to the engine's thresholds, and to the calculators plugged in."""

from __future__ import annotations

import importlib
from typing import Any, Final

from tables.calculator import Calculator
from tables.parameters import Parameters
from tapeline.config import Settings
from tapeline.errors import ConfigError

SETTING: Final = "NT_CALCULATORS"

_NOT_THRESHOLDS = frozenset({"report_levels", "tick_levels", "calculators"})


def parameters_of(settings: Settings) -> Parameters:
    """The thresholds that the settings name, under the same names, and the calculators.

    Raises:
        ConfigError: A calculator can't be loaded, or is none.
    """
    names = [name for name in Parameters.__struct_fields__ if name not in _NOT_THRESHOLDS]
    return Parameters(
        **{name: getattr(settings, name) for name in names},
        calculators=calculators_of(settings.calculators),
    )


def calculators_of(setting: str) -> tuple[type[Calculator], ...]:
    """Load what ``NT_CALCULATORS`` names.

    Raises:
        ConfigError: It names the entry, and what is wrong with it.
    """
    entries = [entry.strip() for entry in setting.split(",") if entry.strip()]
    found: dict[str, type[Calculator]] = {}
    for entry in entries:
        each = _loaded(entry)
        if each.name in found:
            raise ConfigError(SETTING, entry, f"a name of its own; {each.name} is there already")
        found[each.name] = each
    return tuple(found.values())


def _loaded(entry: str) -> type[Calculator]:
    module, colon, name = entry.partition(":")
    if not (module and colon and name.isidentifier()):
        raise ConfigError(SETTING, entry, "package.module:Class")
    try:
        each: Any = getattr(importlib.import_module(module), name)
        made = each()
    except Exception as error:
        # Somebody else's code: it may raise anything while it is loaded.
        wanted = f"something importable ({type(error).__name__}: {error})"
        raise ConfigError(SETTING, entry, wanted) from error
    named = isinstance(getattr(each, "name", None), str) and each.name.isidentifier()
    if not named or not isinstance(getattr(each, "version", None), int):
        raise ConfigError(SETTING, entry, "a class with a name (an identifier) and a version")
    if not isinstance(made, Calculator):
        raise ConfigError(SETTING, entry, "a class with apply, read, snapshot and restore")
    loaded: type[Calculator] = each
    return loaded
