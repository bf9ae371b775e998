"""The dashboard's files: read once, named by what is in them, compressed once.

All files share one name in front, the digest of all: modules import each other by relative
paths, so none can be taken from another release, and each may be kept for ever.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

from serving.glossary import GLOSSARY, RUNBOOKS, TEXTS

STATIC: Final = Path(__file__).parent / "static"
SHELL: Final = "index.html"
BASE: Final = "{{base}}"
"""What the shell says where the address of the files belongs."""

PREFIX: Final = "/assets"
TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
CHART_STYLE: Final = "'sha256-3pRED1tOXas1FXFoPb9TGCjmYe9XQsmO9OV23khV2nY='"
"""Of the one style sheet that the chart library puts into the page, for its logo."""

CONTENT_SECURITY_POLICY: Final = "; ".join(
    (
        "default-src 'self'",
        f"style-src 'self' {CHART_STYLE}",
        "img-src 'self' data:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
# Beside what the front door adds to every answer: no sniffing, no referrer.
PAGE_HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True)
class Asset:
    """One file.

    Attributes:
        name: Its path below the folder, with slashes.
        body: As it is.
        media_type: What it is served as.
    """

    name: str
    body: bytes = field(repr=False)
    media_type: str

    @cached_property
    def gzipped(self) -> bytes:
        """The body, compressed as far as gzip goes; made when it is first asked for."""
        return gzip.compress(self.body, 9, mtime=0)


class Assets:
    """All files of a folder, and texts that every reader carries.

    Args:
        root: The folder.
        texts: Where the glossary and the runbooks are; they are served under their own names.

    Raises:
        FileNotFoundError: It has no shell.
        KeyError: It has a file of a kind that is not served.
    """

    def __init__(self, root: Path = STATIC, texts: Path = TEXTS) -> None:
        self._files = {asset.name: asset for asset in _read(root)}
        for name in (GLOSSARY, RUNBOOKS):
            self._files[name] = Asset(name, (texts / name).read_bytes(), TYPES[".json"])
        digest = hashlib.sha256()
        for name, asset in sorted(self._files.items()):
            digest.update(f"{name}\0{len(asset.body)}\0".encode())
            digest.update(asset.body)
        self.digest = digest.hexdigest()[:16]
        self.base = f"{PREFIX}/{self.digest}"
        try:
            shell = self._files.pop(SHELL)
        except KeyError:
            raise FileNotFoundError(f"{root} has no {SHELL}") from None
        body = shell.body.replace(BASE.encode(), self.base.encode())
        self.page = Asset(SHELL, body, shell.media_type)
        """The one page, which shows what its address says."""

    def __iter__(self) -> Iterator[Asset]:
        return iter(self._files.values())

    def get(self, digest: str, name: str) -> Asset | None:
        """The file of this release, None where there is none, or the digest is another's."""
        return self._files.get(name) if digest == self.digest else None


def _read(root: Path) -> Iterator[Asset]:
    for path in sorted(root.rglob("*")):
        if path.is_file():
            name = path.relative_to(root).as_posix()
            yield Asset(name, path.read_bytes(), TYPES[path.suffix])
