"""Licences, bill of materials, known weaknesses."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from supply_chain import licences as licences_module
from supply_chain.__main__ import EXIT_FOUND, EXIT_NOT_CHECKED, main
from supply_chain.advisories import findings, read_advisories
from supply_chain.audit import by_service
from supply_chain.licences import Licensed, allowed
from supply_chain.locks import CORE, Pinned, read_lock

# --- licences -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "will_do"),
    [
        ("MIT", True), ("GPL-3.0-only", False), ("unknown", False),
        ("MIT OR GPL-3.0-only", True), ("MIT AND GPL-3.0-only", False),
        ("MPL-2.0 AND (Apache-2.0 OR GPL-2.0-only)", True),
        ("(GPL-2.0-only OR AGPL-3.0-only) AND MIT", False),
        ("GPL-2.0-only OR MIT AND ISC", True), ("MIT AND ISC OR GPL-2.0-only", True),
    ],
)  # fmt: skip
def test_an_expression_is_judged_by_its_parts(expression: str, will_do: bool) -> None:
    assert allowed(expression) is will_do


@pytest.mark.parametrize("text", ["", "MIT AND", "(MIT", "MIT MIT", "OR MIT"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="SPDX"):
        allowed(text)


def test_a_licence_that_is_not_allowed_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(licences_module, "_READ_BY_HAND", {"aiokafka": "AGPL-3.0-only"})
    assert main(["licences", str(tmp_path / "page.md")]) == EXIT_FOUND
    assert "aiokafka 0.14.0: AGPL-3.0-only is not allowed" in capsys.readouterr().err


# --- SBOM -----------------------------------------------------------------------------------------


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    target = tmp_path / "deep" / "a.cdx.json"
    assert main(["sbom", str(target)]) == 0
    found: dict[str, Any] = json.loads(target.read_text())
    return found


def test_the_same_lock_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        main(["sbom", str(tmp_path / name)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_bill_has_what_an_image_installs_and_nothing_else(document: dict[str, Any]) -> None:
    python = [c for c in document["components"] if c["purl"].startswith("pkg:pypi/")]
    locked = [each for each in read_lock(CORE) if each.for_us]
    assert sorted(c["purl"] for c in python) == sorted(each.purl for each in locked)
    by_purl = {c["purl"]: c for c in python}
    for each in locked:
        hashes = {h["content"] for h in by_purl[each.purl]["hashes"]}
        assert hashes == set(each.hashes)
        assert by_purl[each.purl]["licenses"]
    (script,) = [c for c in document["components"] if c not in python]
    assert script["name"] == "lightweight-charts"


def test_its_graph_reaches_every_component(document: dict[str, Any]) -> None:
    """From the product on; nothing hangs in the air, and nothing points to what is not there."""
    edges = {d["ref"]: d["dependsOn"] for d in document["dependencies"]}
    refs = {c["bom-ref"] for c in document["components"]}
    root = document["metadata"]["component"]["bom-ref"]
    assert edges.keys() == refs | {root}
    reached, ahead = set(), [root]
    while ahead:
        ref = ahead.pop()
        if ref not in reached:
            reached.add(ref)
            ahead += edges[ref]
    assert reached == refs | {root}


def test_it_is_what_the_schema_asks_of_every_document(document: dict[str, Any]) -> None:
    """The whole schema judges in `make supply-chain`."""
    assert document["bomFormat"] == "CycloneDX"
    assert document["specVersion"] == "1.6"
    assert document["serialNumber"].startswith("urn:uuid:")
    refs = [c["bom-ref"] for c in document["components"]]
    assert len(refs) == len(set(refs))
    assert {tuple(sorted(licence)) for c in document["components"] for licence in c["licenses"]} <= {
        ("license",), ("expression",),
    }  # fmt: skip


# --- known weaknesses -----------------------------------------------------------------------------


def advisory(name: str, events: list[dict[str, str]] | None = None, **more: Any) -> dict[str, Any]:
    affected: dict[str, Any] = {"package": {"ecosystem": "PyPI", "name": name}}
    if events is not None:
        affected["ranges"] = [{"type": "ECOSYSTEM", "events": events}]
    affected |= {key: more.pop(key) for key in ("versions",) if key in more}
    base = {"id": "TEST-1", "aliases": ["CVE-1"], "summary": "bad"}
    return {**base, "affected": [affected], **more}


SINCE_2_BEFORE_3 = [{"introduced": "2.0"}, {"fixed": "3.0"}]


@pytest.mark.parametrize(
    ("version", "events", "hit"),
    [
        ("1.9", SINCE_2_BEFORE_3, False), ("2.0", SINCE_2_BEFORE_3, True),
        ("2.99", SINCE_2_BEFORE_3, True), ("3.0", SINCE_2_BEFORE_3, False),
        ("3.0rc1", SINCE_2_BEFORE_3, True),
        ("1.0", [{"introduced": "0"}, {"last_affected": "1.0"}], True),
        ("1.0.1", [{"introduced": "0"}, {"last_affected": "1.0"}], False),
        ("9", [{"introduced": "0"}], True),
        ("5", [{"introduced": "0"}, {"fixed": "2"}, {"introduced": "4"}], True),
        ("3", [{"introduced": "4"}, {"fixed": "2"}, {"introduced": "0"}], False),
        ("1", [{"introduced": "no version"}], True),
    ],
)  # fmt: skip
def test_a_range_concerns_the_versions_inside_it(
    version: str, events: list[dict[str, str]], hit: bool
) -> None:
    found, count = findings([Pinned("a-b", version)], [advisory("A_b", events)])
    assert count == 1
    assert [(f.id, f.aliases) for f in found] == ([("TEST-1", ("CVE-1",))] if hit else [])


def test_names_versions_ecosystems_and_withdrawn_ones() -> None:
    mine = [Pinned("a", "1.0")]
    assert findings(mine, [advisory("a", versions=["0.9", "1.0"])])[0]
    assert not findings(mine, [advisory("a", versions=["0.9"])])[0]
    assert not findings(mine, [advisory("b", versions=["1.0"])])[0]
    assert not findings(mine, [advisory("a", versions=["1.0"], withdrawn="2026-01-01")])[0]
    other = advisory("a", versions=["1.0"])
    other["affected"][0]["package"]["ecosystem"] = "npm"
    assert not findings(mine, [other])[0]


def test_advisories_are_read_from_a_file_a_folder_or_a_zip(tmp_path: Path) -> None:
    one = json.dumps(advisory("a"))
    (tmp_path / "dir").mkdir()
    for name, text in (
        ("one.json", one), ("list.json", f"[{one}]"), ("lines.jsonl", f"{one}\n{one}\n"),
        ("dir/a.json", one),
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("a.json", one)
    counts = {
        name: len(list(read_advisories(tmp_path / name)))
        for name in ("one.json", "list.json", "lines.jsonl", "dir", "all.zip")
    }
    assert counts == {"one.json": 1, "list.json": 1, "lines.jsonl": 2, "dir": 1, "all.zip": 1}


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "my.txt"
    path.write_text(f"aiokafka==0.14.0 \\\n    --hash=sha256:{'0' * 64}\n")
    return path


def audit(lock: Path, *options: str) -> int:
    return main(["audit", "--lock", str(lock), *options])


def test_a_weakness_of_a_locked_version_fails_and_is_named(
    lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "osv.json"
    file.write_text(json.dumps(advisory("aiokafka", [{"introduced": "0"}, {"fixed": "0.14.1"}])))
    assert audit(lock, "--advisories", str(file)) == EXIT_FOUND
    out, err = capsys.readouterr()
    assert out == "aiokafka 0.14.0: TEST-1, CVE-1; fixed in 0.14.1: bad\n"
    assert "1 packages, 1 weaknesses, by 1 advisories in osv.json" in err
    assert audit(lock, "--advisories", str(file), "--ignore", "CVE-1") == 0
    assert capsys.readouterr().out == ""


def test_without_a_database_it_says_so_and_fails_only_if_asked_to(
    lock: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, content in (("gone.json", None), ("empty.json", "[]"), ("other.json", '{"a":1}')):
        if content is not None:
            (tmp_path / name).write_text(content)
        file = str(tmp_path / name)
        assert audit(lock, "--advisories", file) == 0
        assert "not checked: no advisory database reachable" in capsys.readouterr().err
        assert audit(lock, "--advisories", file, "--strict") == EXIT_NOT_CHECKED


def tool(folder: Path, body: str) -> Path:
    path = folder / "pip-audit"
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(0o755)
    return path


def test_the_service_s_answer_is_taken_and_its_silence_told(lock: Path, tmp_path: Path) -> None:
    """A stand-in for pip-audit: what it prints, found or not, and where nobody answers it."""
    packages = read_lock(lock)
    weak = {"id": "PYSEC-1", "aliases": ["CVE-2"], "description": "x", "fix_versions": ["9"]}
    answer = {"dependencies": [{"name": "aiokafka", "version": "0.14.0", "vulns": [weak]}]}
    found = by_service(
        packages, lock, tool(tmp_path, f"print({json.dumps(answer)!r}); sys.exit(1)")
    )
    assert found.by == "pip-audit"
    assert [(f.package.name, f.id, f.fixed) for f in found.found] == [
        ("aiokafka", "PYSEC-1", ("9",))
    ]
    silent = tool(tmp_path, "sys.stderr.write('ERROR: no route\\n'); sys.exit(1)")
    assert by_service(packages, lock, silent).why_not == "ERROR: no route"
    assert "not installed" in by_service(packages, lock, tmp_path / "gone").why_not


def test_a_package_is_licensed_or_it_is_not() -> None:
    package = Pinned("a", "1")
    assert Licensed(package, "MIT").allowed
    assert not Licensed(package, "SSPL-1.0").allowed
