"""``python -m supply_chain licences | sbom | audit``: exit 0 good, 1 found something, 3 not checked."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from supply_chain.audit import Audited, by_files, by_service
from supply_chain.licences import Licensed, licences, page
from supply_chain.locks import CORE, ROOT, Pinned, read_lock
from supply_chain.sbom import bill, needs_of, rendered

EXIT_FOUND = 1
EXIT_NOT_CHECKED = 3
DEV = ROOT / "requirements" / "dev.txt"


def say(text: str) -> None:
    """One line on stderr: stdout is for results."""
    sys.stderr.write(f"supply-chain: {text}\n")


def both() -> tuple[list[Licensed], list[Licensed]]:
    """What an image runs, and what development needs besides."""
    core = licences(read_lock(CORE))
    names = {each.package.name for each in core}
    others = [each for each in licences(read_lock(DEV)) if each.package.name not in names]
    return core, others


def run_licences(target: Path, *, check: bool) -> int:
    """Write the page, or see that it is as it would be written; judge them all."""
    core, others = both()
    text = page(core, others)
    status = 0
    if check and (not target.is_file() or target.read_text(encoding="utf-8") != text):
        say(f"{target} is not what the locks give; python -m supply_chain licences {target}")
        status = EXIT_FOUND
    if not check:
        target.write_text(text, encoding="utf-8")
    for each in [*core, *others]:
        if not each.allowed:
            say(f"{each.package.name} {each.package.version}: {each.licence} is not allowed")
            status = EXIT_FOUND
    if not status:
        say(f"licences: {len(core)} packages of an image, {len(others)} others, all allowed")
    return status


def run_sbom(target: Path) -> int:
    """Write the bill of materials."""
    core, _ = both()
    document = bill(core, needs_of(each.package.name for each in core))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(rendered(document), encoding="utf-8")
    say(f"sbom: {target}, {len(core)} components, {document['serialNumber']}")
    return 0


def run_audit(
    locks: Iterable[Path], advisories: Path | None, ignored: set[str], *, strict: bool
) -> int:
    """Look the locks up; what is found goes to stdout."""
    status = 0
    for lock in locks:
        packages = [each for each in read_lock(lock) if each.for_us]
        found = _asked(packages, lock, advisories)
        if not found.by:
            say(f"{lock.name}: not checked: no advisory database reachable ({found.why_not})")
            status = status or (EXIT_NOT_CHECKED if strict else 0)
            continue
        left = [f for f in found.found if not ignored & {f.id, *f.aliases}]
        for each in left:
            names = ", ".join((each.id, *each.aliases))
            fixed = f"; fixed in {', '.join(each.fixed)}" if each.fixed else ""
            what = f"{each.package.name} {each.package.version}"
            sys.stdout.write(f"{what}: {names}{fixed}: {each.summary}\n")
        if left:
            status = EXIT_FOUND
        say(f"{lock.name}: {len(packages)} packages, {len(left)} weaknesses, by {found.by}")
    return status


def _asked(packages: list[Pinned], lock: Path, advisories: Path | None) -> Audited:
    return by_service(packages, lock) if advisories is None else by_files(packages, advisories)


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m supply_chain", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("licences", help="write docs/licences.md, and judge")
    one.add_argument("target", type=Path)
    one.add_argument("--check", action="store_true", help="compare instead of writing")
    two = commands.add_parser("sbom", help="write the CycloneDX document")
    two.add_argument("target", type=Path)
    three = commands.add_parser("audit", help="known weaknesses of the locked versions")
    three.add_argument("--lock", type=Path, action="append", help="default: core.txt, dev.txt")
    three.add_argument(
        "--advisories",
        type=Path,
        default=os.environ.get("ADVISORIES") or None,
        help="file, folder or zip in the OSV format; default: $ADVISORIES, else the network",
    )
    three.add_argument("--ignore", action="append", default=[], metavar="ID")
    three.add_argument("--strict", action="store_true", help="status 3 where nothing was checked")
    given = parser.parse_args(argv)
    if given.command == "licences":
        return run_licences(given.target, check=given.check)
    if given.command == "sbom":
        return run_sbom(given.target)
    advisories = Path(given.advisories) if given.advisories else None
    return run_audit(given.lock or [CORE, DEV], advisories, set(given.ignore), strict=given.strict)


if __name__ == "__main__":
    raise SystemExit(main())
