"""From settings to the engine's thresholds."""

from __future__ import annotations

from tables.parameters import Parameters
from tapeline.config import Settings

_NOT_SETTINGS = frozenset({"report_levels", "tick_levels"})


def parameters_of(settings: Settings) -> Parameters:
    """The thresholds that the settings name, under the same names."""
    names = [name for name in Parameters.__struct_fields__ if name not in _NOT_SETTINGS]
    return Parameters(**{name: getattr(settings, name) for name in names})
