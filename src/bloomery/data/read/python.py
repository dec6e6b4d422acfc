"""`python://`: the text files of the running interpreter's standard library and installed packages, one document each.

The sample depends only on names, contents and the seed, never on where Python is installed, so that two machines with the
same packages get the same corpus. Installed files are those that a package's RECORD lists: nothing generated later.
"""

from __future__ import annotations

import csv
import hashlib
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, replace
from email.parser import HeaderParser
from functools import lru_cache
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.documents import Broken, Options, Task
from bloomery.data.read.text import read_file
from bloomery.data.sizes import parse_size
from bloomery.data.sources import CHUNK, Source
from bloomery.seams import Doc

ENDINGS = (".py", ".pyi", ".rst", ".md", ".txt")
GENERATED = ("_sysconfigdata", "__editable__", "sitecustomize", "usercustomize")
NOT_MODULES = ("__pycache__", "site-packages", "dist-packages", "lib-dynload")
SITES = ("site-packages", "dist-packages")
OWN = "bloomery"


@dataclass(frozen=True)
class Package:
    """An installed distribution, or a top-level module of the standard library (`info` is empty)."""

    name: str
    version: str
    root: str  # folder that the relative paths of its files start in
    info: str = ""  # the .dist-info folder
    entry: str = ""  # file or folder below `root`, for the standard library

    def files(self) -> list[str]:
        """Relative paths of its text files, sorted, with / between the parts."""
        found = _recorded(self.info) if self.info else _walked(self.root, self.entry)
        return sorted({path for path in found if _wanted(path)})

    def licence(self) -> str:
        """License-Expression, a short License field, or the licence classifier of the METADATA file."""
        if not self.info:
            return "PSF-2.0"
        try:
            with open(os.path.join(self.info, "METADATA"), encoding="utf-8", errors="replace") as handle:
                fields = HeaderParser().parse(handle, headersonly=True)
        except OSError:
            return ""
        stated = str(fields.get("License", "")).strip().split("\n")[0][:60]
        if stated.upper() == "UNKNOWN" or stated.startswith("Copyright"):
            stated = ""
        classified = [c.rsplit("::", 1)[1].strip() for c in fields.get_all("Classifier", []) if c.startswith("License ::")]
        return str(fields.get("License-Expression", "")).strip() or (stated if len(stated) < 60 else "") or ", ".join(classified) or stated


def _recorded(info: str) -> Iterator[str]:
    try:
        with open(os.path.join(info, "RECORD"), encoding="utf-8", newline="") as handle:
            yield from (row[0].replace("\\", "/") for row in csv.reader(handle) if row)
    except OSError:
        return


def _walked(root: str, entry: str) -> Iterator[str]:
    top = os.path.join(root, entry)
    if os.path.isfile(top):
        yield entry
    for folder, inner, names in os.walk(top):
        inner[:] = sorted(name for name in inner if name not in NOT_MODULES)
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        yield from (f"{relative}/{name}" for name in names)


def _wanted(path: str) -> bool:
    parts = path.split("/")
    return (
        path.endswith(ENDINGS)
        and not path.startswith("/")
        and ".." not in parts
        and not any(part == "__pycache__" or part.endswith((".dist-info", ".egg-info")) for part in parts)
        and not parts[-1].startswith(GENERATED)
    )


def packages() -> list[Package]:
    """Every package of the running interpreter, sorted by name; bloomery itself is left out."""
    found: dict[str, Package] = {}
    library = sysconfig.get_path("stdlib")
    for entry in sorted(os.listdir(library)):
        module = entry.removesuffix(".py")
        folder = os.path.isdir(os.path.join(library, entry))
        if (folder or entry.endswith(".py")) and entry not in NOT_MODULES and not entry.startswith(("config-", *GENERATED)):
            found.setdefault(module, Package(module, platform.python_version(), library, entry=entry))
    for site in dict.fromkeys(os.path.abspath(p) for p in sys.path if os.path.basename(os.path.abspath(p)) in SITES):
        for entry in sorted(os.listdir(site)) if os.path.isdir(site) else ():
            if entry.endswith(".dist-info"):
                name, _, version = entry.removesuffix(".dist-info").rpartition("-")
                name = re.sub(r"[-_.]+", "-", name).lower()
                if name in found and found[name].info:
                    continue  # an earlier folder of sys.path hides it
                key = name if name not in found else f"{name} (installed)"
                found[key] = Package(key, version, site, info=os.path.join(site, entry))
    return sorted((p for p in found.values() if p.name != OWN), key=lambda p: p.name)


def _order(seed: int, *names: str) -> bytes:
    return hashlib.sha256("\0".join((str(seed), *names)).encode("utf-8", "surrogateescape")).digest()


def sample(options: Options, among: list[Package] | None = None) -> list[tuple[Package, list[tuple[str, int]]]]:
    """Packages in the order of the seed, each with its chosen (file, bytes), up to `size` bytes in all and `share` of it each."""
    among = packages() if among is None else among
    budget = parse_size(options.size, "sources: python://: size") if options.size else sys.maxsize
    cap = budget * options.share if options.size else sys.maxsize
    chosen: list[tuple[Package, list[tuple[str, int]]]] = []
    total = 0
    for package in sorted(among, key=lambda p: _order(options.seed, p.name)):
        taken, held = [], 0
        for path in sorted(package.files(), key=lambda p: _order(options.seed, package.name, p)):
            try:
                length = os.path.getsize(os.path.join(package.root, path))
            except OSError:
                continue  # listed but removed by hand
            if held + length > cap:
                continue
            if total + held + length > budget:
                return [*chosen, (package, taken)] if taken else chosen
            taken.append((path, length))
            held += length
        if taken:
            chosen.append((package, taken))
            total += held
    return chosen


@lru_cache(maxsize=8)
def _sampled(options: Options) -> list[tuple[Package, list[tuple[str, int]]]]:
    return sample(options)


def check(source: Source) -> None:
    """Refuse options that choose nothing."""
    if not _sampled(source.options):
        raise BadInput(f"sources: python:// of size {source.options.size or 'all'} holds no file; ask for a larger size or share")


def size(source: Source) -> int:
    """Bytes of the chosen files."""
    return sum(length for _, files in _sampled(source.options) for _, length in files)


def fingerprint(source: Source) -> dict[str, Any]:
    """A SHA-256 over the manifest: package, version, relative path and SHA-256 of every chosen file."""
    digest, files = hashlib.sha256(), 0
    for package, chosen in _sampled(source.options):
        for path, _ in chosen:
            with open(os.path.join(package.root, path), "rb") as handle:
                content = hashlib.sha256(handle.read()).hexdigest()
            digest.update(f"{package.name}\0{package.version}\0{path}\0{content}\n".encode("utf-8", "surrogateescape"))
            files += 1
    return {"address": source.address, "files": files, "bytes": size(source), "sha256": digest.hexdigest()}


def tasks(source: Source, limit: int) -> Iterator[Task]:
    """Runs of files of about one chunk, in the order of the sample."""
    options = replace(source.options, encoding="utf-8-sig")
    run: list[tuple[str, str, str, str]] = []
    held = 0
    for package, chosen in _sampled(source.options):
        licence = package.licence()
        for path, length in chosen:
            run.append((os.path.join(package.root, path), path, package.name, licence))
            held += length
            if held >= CHUNK:
                yield Task("python", source.address, tuple(run), options, limit)
                run, held = [], 0
    if run:
        yield Task("python", source.address, tuple(run), options, limit)


def read(task: Task) -> Iterator[Doc | Broken]:
    """One document per file; its path is relative to the standard library or the site folder."""
    for path, name, package, licence in task.where:
        found = read_file(task, path, name, package)
        if isinstance(found, Broken):
            yield replace(found, licence=licence)
        else:
            found.meta["licence"] = licence
            yield found
