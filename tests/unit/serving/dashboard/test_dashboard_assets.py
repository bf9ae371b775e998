"""The dashboard's files: names, types, sizes, what they may not do, and what is vendored."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from serving.dashboard.assets import (
    BASE,
    CHART_STYLE,
    CONTENT_SECURITY_POLICY,
    STATIC,
    TYPES,
    Assets,
)
from serving.glossary import GLOSSARY, RUNBOOKS

BYTES_MAX = 150 * 1024
VENDOR = STATIC / "vendor"
OWN = [path for path in STATIC.rglob("*") if path.is_file() and VENDOR not in path.parents]


@pytest.fixture(scope="module")
def assets() -> Assets:
    return Assets()


def test_the_whole_is_small(assets: Assets) -> None:
    """As it is sent: compressed, with all pages, charts, glossary and licences."""
    total = len(assets.page.gzipped) + sum(len(asset.gzipped) for asset in assets)
    assert total <= BYTES_MAX


def test_files_are_what_they_are_and_compress_to_themselves(assets: Assets) -> None:
    for asset in assets:
        assert asset.media_type == TYPES[Path(asset.name).suffix]
        assert gzip.decompress(asset.gzipped) == asset.body
    assert {asset.name for asset in assets} >= {"js/app.mjs", "desk.css", "glossary.json"}


def test_the_name_follows_from_the_bytes(tmp_path: Path) -> None:
    """Of one file the digest of all changes; a file that is gone from it has no address."""
    texts = STATIC.parents[1] / "texts"
    (tmp_path / "index.html").write_text(f"<a href={BASE}/a.css>")
    (tmp_path / "a.css").write_text("a{}")
    before = Assets(tmp_path, texts)
    again = Assets(tmp_path, texts)
    (tmp_path / "a.css").write_text("b{}")
    after = Assets(tmp_path, texts)
    assert before.digest == again.digest != after.digest
    assert after.page.body == f"<a href=/assets/{after.digest}/a.css>".encode()
    found = after.get(after.digest, "a.css")
    assert found is not None
    assert found.body == b"b{}"
    assert after.get(before.digest, "a.css") is None
    assert after.get(after.digest, "../assets.py") is None


def test_a_folder_without_a_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Assets(tmp_path)


def test_vendored_files_are_those_of_the_manifest() -> None:
    manifest = json.loads((VENDOR / "manifest.json").read_text())
    there = {path.name for path in VENDOR.iterdir()} - {"manifest.json"}
    assert set(manifest["sha256"]) == there
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    assert "lightweight-charts.LICENSE.txt" in there
    notice = (VENDOR / "NOTICE.txt").read_text()
    assert "https://www.tradingview.com/" in notice
    assert manifest["version"] in notice


def test_the_one_foreign_style_that_is_allowed_is_the_chart_library_s() -> None:
    script = (VENDOR / "lightweight-charts.mjs").read_text()
    [style] = re.findall(r'createElement\("style"\),this\.\w+\.innerText="([^"]*)"', script)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" == CHART_STYLE
    assert "unsafe" not in CONTENT_SECURITY_POLICY


@pytest.mark.parametrize("path", OWN, ids=lambda path: path.name)
def test_nothing_is_inline_and_nothing_is_from_elsewhere(path: Path) -> None:
    """Links that people follow may lead away; what a page loads by itself may not."""
    text = path.read_text()
    for found in re.findall(r"https?://[^\s\"'`)]+", text):
        assert found.startswith(("https://www.tradingview.com/", "http://www.w3.org/")), found
    if path.suffix == ".html":
        assert not re.findall(r"<script(?![^>]*\bsrc=)", text)
        assert not re.findall(r"<style|\sstyle=|\son\w+=", text)
    if path.suffix in {".mjs", ".js"}:
        assert not re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text
        )
        assert "attributionLogo: false" not in text
    if path.suffix == ".css":
        assert not re.findall(r"@import|url\(", text)


def test_the_page_names_whose_charts_they_are(assets: Assets) -> None:
    """Asked for by the library's licence, beside the logo on the chart."""
    body = assets.page.body.decode()
    assert "https://www.tradingview.com/" in body
    assert "Copyright © 2026 TradingView, Inc." in body
    assert f"{assets.base}/vendor/NOTICE.txt" in body
    assert BASE not in body


def test_modules_import_each_other_by_relative_names_that_are_there(assets: Assets) -> None:
    names = {asset.name for asset in assets}
    for path in (STATIC / "js").glob("*.mjs"):
        text = path.read_text()
        imported = re.findall(r"from \"(\.[^\"]+)\"|import\(\"(\.[^\"]+)\"\)", text)
        for one in [a or b for a, b in imported]:
            target = (path.parent / one).resolve().relative_to(STATIC.resolve()).as_posix()
            assert target in names, f"{path.name}: {one}"


def test_the_wheel_has_every_file(assets: Assets) -> None:
    """As the build chooses them: what version control leaves out would be missing there."""
    builders = pytest.importorskip("hatchling.builders.wheel")
    builder = builders.WheelBuilder(str(STATIC.parents[2]))
    packed = {one.distribution_path for one in builder.recurse_included_files()}
    wanted = {f"serving/dashboard/static/{asset.name}" for asset in assets}
    wanted -= {f"serving/dashboard/static/{name}" for name in (GLOSSARY, RUNBOOKS)}
    wanted |= {f"serving/texts/{name}" for name in (GLOSSARY, RUNBOOKS)}
    assert wanted | {"serving/dashboard/static/index.html"} <= packed
