"""The documentation's pictures: ``python -m tests.support.desk_pictures docs/images``.

Taken of a real stack whose markets are seeded, in few colours, so that each stays small.
"""

from __future__ import annotations

import base64
import struct
import sys
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.support import browsers
from tests.support.browsers import Watched
from tests.support.desk_stack import Stack

if TYPE_CHECKING:
    from playwright.sync_api import Page

COLOURS = 256
COMMONEST = 128
BYTES_MAX = 150 * 1024
SIZE = {"width": 1280, "height": 860}
SMALL = {"width": 390, "height": 844}
COLLECT_MS = 70_000

PIXELS = """async url => {
  const picture = await createImageBitmap(await (await fetch(url)).blob());
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const bytes = context.getImageData(0, 0, picture.width, picture.height).data;
  let text = "";
  for (let n = 0; n < bytes.length; n += 32768) {
    text += String.fromCharCode(...bytes.subarray(n, n + 32768));
  }
  return [picture.width, picture.height, btoa(text)];
}"""


def in_few_colours(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG with a palette: the commonest colours, and of the others those that are most unlike."""
    rgb = np.frombuffer(pixels, np.uint8).reshape(-1, 4)[:, :3].astype(np.int32)
    keys = (rgb[:, 0] << 16) | (rgb[:, 1] << 8) | rgb[:, 2]
    found, which, counts = np.unique(keys, return_inverse=True, return_counts=True)
    parts = np.stack([(found >> 16) & 255, (found >> 8) & 255, found & 255], axis=1)
    palette = parts[np.argsort(-counts)[:COMMONEST]]
    far = np.array([((palette - one) ** 2).sum(axis=1).min() for one in parts])
    while len(palette) < min(COLOURS, len(parts)):
        rarest = parts[far.argmax()]
        palette = np.vstack([palette, rarest])
        far = np.minimum(far, ((parts - rarest) ** 2).sum(axis=1))
    nearest = np.array(
        [int(((palette - one) ** 2).sum(axis=1).argmin()) for one in parts], np.uint8
    )
    rows = nearest[which].reshape(height, width)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette.astype(np.uint8).tobytes()),
            _chunk(b"IDAT", zlib.compress(body, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def keep(desk: Watched, blank: Page, path: Path) -> None:
    """What is on the screen now, as a small file."""
    url = "data:image/png;base64," + base64.b64encode(desk.page.screenshot()).decode()
    width, height, pixels = blank.evaluate(PIXELS, url)
    body = in_few_colours(width, height, base64.b64decode(pixels))
    if len(body) > BYTES_MAX:
        raise SystemExit(f"{path.name} would have {len(body)} bytes, limit {BYTES_MAX}")
    path.write_bytes(body)
    print(f"{path.name}: {len(body)} bytes")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tapeline-desk-") as temporary:
        stack = Stack(Path(temporary), 24)
        try:
            stack.start()
            with browsers.browser() as browser, browsers.watched(browser, stack.url) as desk:
                blank = browser.new_page()
                desk.page.set_viewport_size(SIZE)  # type: ignore[arg-type]
                desk.go("/s/BTCUSDT")
                desk.page.mouse.move(5, 5)
                desk.page.get_by_role("button", name="1 m", exact=True).click()
                desk.page.wait_for_timeout(COLLECT_MS * 0.6)
                stack.tell("gap BTCUSDT")
                desk.page.wait_for_timeout(4_000)
                stack.tell("mend BTCUSDT")
                desk.page.wait_for_timeout(COLLECT_MS * 0.35)
                keep(desk, blank, folder / "symbol-dark.png")
                desk.page.emulate_media(color_scheme="light")
                desk.page.wait_for_timeout(900)
                keep(desk, blank, folder / "symbol-light.png")
                desk.page.set_viewport_size(SMALL)  # type: ignore[arg-type]
                desk.page.wait_for_timeout(900)
                keep(desk, blank, folder / "symbol-phone.png")
                desk.page.set_viewport_size(SIZE)  # type: ignore[arg-type]
                desk.page.locator("[data-nav=wall]").click()
                desk.page.wait_for_timeout(4_000)
                keep(desk, blank, folder / "wall-light.png")
                desk.page.emulate_media(color_scheme="dark")
                desk.page.wait_for_timeout(2_500)
                keep(desk, blank, folder / "wall-dark.png")
                desk.page.locator("[data-nav=topics]").click()
                desk.page.wait_for_timeout(4_000)
                keep(desk, blank, folder / "samples-dark.png")
        finally:
            stack.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
