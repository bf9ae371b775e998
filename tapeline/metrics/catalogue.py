"""What the code can't say of a metric: what it is good for, and how it is asked for."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

FILE: Final = Path(__file__).with_name("catalogue.toml")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """What is said of one metric.

    Attributes:
        query: An example, PromQL.
        tells: What one reads off it, beyond its help.
        labels: What its labels hold, where that is more than `Catalogue.labels` says.
    """

    query: str
    tells: str = ""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalogue:
    """All entries.

    Attributes:
        labels: What a label holds, and how many values it may have.
        metrics: By name, as asked for.
    """

    labels: dict[str, str]
    metrics: dict[str, Entry]

    def label(self, metric: str, label: str) -> str:
        """What a label of a metric holds.

        Raises:
            KeyError: Nothing is said of it.
        """
        return self.metrics[metric].labels.get(label) or self.labels[label]


def read_catalogue(path: Path = FILE) -> Catalogue:
    """The catalogue as it is kept.

    Raises:
        TypeError: An entry with a word that is not one of `Entry`.
    """
    raw = tomllib.loads(path.read_text())
    return Catalogue(
        labels=raw["labels"],
        metrics={name: Entry(**entry) for name, entry in raw["metrics"].items()},
    )
