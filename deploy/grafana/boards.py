"""The dashboards: ``python -m deploy.grafana.boards FOLDER`` writes one JSON file each.

`make docs` runs it. Whoever changes a panel in Grafana brings the change here, too: what is
provisioned is read-only there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from deploy.grafana.board_bridge import BRIDGE
from deploy.grafana.board_coordination import COORDINATION
from deploy.grafana.board_overview import OVERVIEW
from deploy.grafana.board_readers import READERS
from deploy.grafana.board_worker import WORKER
from deploy.grafana.panels import Board, board_json

BOARDS: Final[tuple[Board, ...]] = (OVERVIEW, WORKER, BRIDGE, READERS, COORDINATION)


def render(board: Board) -> str:
    """The file of a board."""
    return json.dumps(board_json(board), indent=1, ensure_ascii=False) + "\n"


def write(folder: Path) -> None:
    """One file a board, named by its uid."""
    for board in BOARDS:
        (folder / f"{board.uid}.json").write_text(render(board), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
