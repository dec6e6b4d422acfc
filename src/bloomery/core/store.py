"""The store: content-addressed artifacts, each an immutable folder with a card. Folders are the truth.

store/artifacts/<stage>-<16 digits>/   complete: it appears by one rename, its card.json inside
store/work/<stage>-<16 digits>/        being made, or interrupted and resumable; a lock file beside it
store/annotations/<name>-<16 digits>/  what steps made of their sources and later ones find again (`annotations.py`)
store/teachers/<16 digits>/            what a teacher said of rows, found again by every student that asks it the same
store/runs/<recipe>.json               the last run of each recipe: what `gc` keeps
store/index.sqlite                     what `ls` shows, rebuilt from the folders whenever it is missing or damaged (`index.py`)
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput, Busy, near
from bloomery.core.files import files_below, sha256_file, to_disk, write_json

CARD = "card.json"
ON_CARD = {"address": str, "stage": str, "kind": str, "step": str, "recipe": str, "made": str, "knobs": dict, "inputs": dict, "files": dict}
MARK = "BLOOMERY_STORE"
ANNOTATED, TAUGHT = "annotations.json", "teachers.json"  # in the work folder of a step: names of what it uses of these two
NOTES = {"annotations": ANNOTATED, "teachers": TAUGHT}  # by folder of the store and key of a card


@dataclass(frozen=True)
class Artifact:
    """A finished result; `address` is the full hash, `folder` is read-only by habit."""

    address: str
    folder: Path
    card: dict[str, Any]

    def __repr__(self) -> str:
        return f"Artifact({self.name}, {self.kind})"

    def path(self, *parts: str) -> Path:
        return self.folder.joinpath(*parts)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def kind(self) -> str:
        return self.card.get("kind", "")

    @property
    def facts(self) -> dict[str, Any]:
        return self.card.get("facts", {})

    @property
    def inputs(self) -> dict[str, list[str]]:
        """Knob -> addresses."""
        return self.card.get("inputs", {})

    def parents(self) -> list[str]:
        return [address for addresses in self.inputs.values() for address in addresses]


class Store:
    """Opens the store at `root`, and makes it unless `make` is off; refuses a folder that holds something else."""

    def __init__(self, root: str | Path, make: bool = True):
        self.root = Path(root).expanduser()
        if not make and not (self.root / MARK).exists():
            raise BadInput(f"{self.root}: there is no store here; `bloomery run` makes one, --store names another")
        if self.root.exists() and not self.root.is_dir():
            raise BadInput(f"{self.root}: the store must be a folder, and this is a file; choose another with --store")
        if self.root.is_dir() and any(self.root.iterdir()) and not (self.root / MARK).exists():
            raise BadInput(f"{self.root}: this folder is not empty and not a bloomery store; choose another with --store")
        try:
            for name in ("artifacts", "work", "runs", *NOTES):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            (self.root / MARK).touch()
        except OSError as wrong:
            raise BadInput(f"{self.root}: the store cannot be written ({wrong.strerror}); choose another place with --store") from None
        self.artifacts, self.work, self.runs = (self.root / name for name in ("artifacts", "work", "runs"))
        self.annotations, self.teachers = (self.root / name for name in NOTES)

    # ---- reading

    def find(self, stage: str, address: str) -> Artifact | None:
        """The artifact of an address, None where there is none; one whose files have gone or changed size is an error.

        Contents are compared by `verify`: by `bloomery check`, and by a run before it reads an artifact.
        """
        folder = self.artifacts / f"{stage}-{address[:16]}"
        if not folder.exists():
            return None
        artifact = self.open(folder)
        if artifact.address != address:
            raise BadInput(f"{folder.name} holds another artifact than its name says; `bloomery rm {folder.name}`, then run again")
        return artifact

    def open(self, folder: Path) -> Artifact:
        """An artifact with its card; the sizes of its files are compared with the card (`verify` compares contents)."""
        mend = f"`bloomery rm {folder.name}`, then run again"
        card = self.read_card(folder)
        for name, (size, _) in card["files"].items():
            path = folder / name
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                raise BadInput(
                    f"{folder.name} is damaged: {name} has {'gone' if found is None else f'{found:,} bytes'}, {size:,} expected; {mend}"
                )
        return Artifact(card["address"], folder, card)

    def read_card(self, folder: Path) -> dict[str, Any]:
        """The card of an artifact, whatever became of its files."""
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            whole = isinstance(card, dict) and all(isinstance(card.get(name), kind) for name, kind in ON_CARD.items())
        except (OSError, ValueError):
            whole = False
        if not whole:
            mend = f"`bloomery rm {folder.name}`, then run again"
            raise BadInput(f"{folder.name} is damaged: its card.json is missing or cannot be read; {mend}")
        return card

    def verify(self, artifact: Artifact) -> list[str]:
        """The names of files whose content is not what the card says."""
        return [name for name, (_, digest) in artifact.card["files"].items() if sha256_file(artifact.path(name)) != digest]

    def all(self) -> Iterator[Artifact]:
        """Every sound artifact, oldest first."""
        found = []
        for folder in self.artifacts.iterdir():
            try:
                found.append(self.open(folder))
            except BadInput:
                continue
        return iter(sorted(found, key=lambda artifact: (artifact.card.get("made", ""), artifact.name)))

    def get(self, name: str) -> Artifact:
        """By folder name, address or its beginning, step of the latest recorded run that has one, or the beginning of a folder name."""
        folders = {folder.name: folder for folder in self.artifacts.iterdir()}
        made = [run["made"][name] for run in self.run_records() if run["made"].get(name) in folders]
        by_hash = [key for key in folders if len(name) >= 4 and key.partition("-")[2].startswith(name[:16])]
        found = [name] if name in folders else by_hash or made[-1:] or [key for key in folders if name and key.startswith(name)]
        if len(found) > 1:
            raise BadInput(f"'{name}' may be any of {', '.join(sorted(found))}; give more of the name")
        if not found:
            known = {*folders, *(step for run in self.run_records() for step, made in run["made"].items() if made in folders)}
            raise BadInput(f"{self.root}: there is no artifact or step '{name}'; {near(name, sorted(known))}")
        return self.open(folders[found[0]])

    # ---- making

    @contextmanager
    def making(self, stage: str, address: str) -> Iterator[Path]:
        """The work folder of an artifact, held by this process alone; it stays when the work is interrupted."""
        name = f"{stage}-{address[:16]}"
        with open(self.work / f"{name}.lock", "a+", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                who = lock.read().strip() or "another process"
                raise Busy(f"{name} is being made by {who} in the store {self.root}; wait until it ends, then run again") from None
            lock.truncate(0)
            lock.write(f"process {os.getpid()}")
            lock.flush()
            work = self.work / name
            work.mkdir(exist_ok=True)
            yield work

    def publish(self, stage: str, out: Path, card: dict[str, Any]) -> Artifact:
        """Make a finished folder an artifact: hash its files, write its card, put it to disk, rename it into place."""
        files = {str(path.relative_to(out)): [path.stat().st_size, sha256_file(path)] for path in files_below(out) if path.name != CARD}
        card = {**card, "files": files}
        write_json(out / CARD, card)
        for path in [*files_below(out), *(p for p in out.rglob("*") if p.is_dir()), out]:
            to_disk(path)
        folder = self.artifacts / f"{stage}-{card['address'][:16]}"
        if not folder.exists():
            os.rename(out, folder)
            to_disk(self.artifacts)
        return Artifact(card["address"], folder, card)

    def leave(self, stage: str, address: str) -> None:
        """Forget the work folder of a published artifact."""
        name = f"{stage}-{address[:16]}"
        shutil.rmtree(self.work / name, ignore_errors=True)
        (self.work / f"{name}.lock").unlink(missing_ok=True)

    # ---- runs, removal

    def record_run(self, recipe: str, resolved: dict[str, Any], made: dict[str, str]) -> None:
        """The last run of a recipe: step -> artifact name, made or still to be made; `gc` keeps these and all that they came from."""
        write_json(self.runs / f"{recipe}.json", {"recipe": resolved, "made": made})

    def run_records(self) -> list[dict[str, Any]]:
        """Every recipe's last run, the latest last."""
        found = []
        for path in sorted(self.runs.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                found.append({"name": path.stem, "made": {str(step): str(made) for step, made in record["made"].items()}})
            except (ValueError, TypeError, KeyError, AttributeError):
                raise BadInput(f"{path} is damaged: it is no record of a run; remove the file, then run the recipe again") from None
        return found

    def kept(self) -> set[str]:
        """Names of artifacts that recorded runs made or will make, with everything that those came from, damaged ones included."""
        cards = {folder.name: folder for folder in self.artifacts.iterdir()}
        by_address = {name.partition("-")[2]: name for name in cards}
        waiting = [name for run in self.run_records() for name in run["made"].values()]
        keep: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in keep and name in cards:
                parents = [address for addresses in self.read_card(cards[name])["inputs"].values() for address in addresses]
                waiting += [by_address[parent[:16]] for parent in parents if parent[:16] in by_address]
            keep.add(name)
        return keep

    def collect(self, dry: bool = False) -> list[tuple[str, int]]:
        """Remove artifacts, unfinished work, annotations and what teachers said that no recorded run needs and no process holds; name and
        bytes of each."""
        keep = self.kept()
        gone = [one for folder in sorted(self.artifacts.iterdir()) if folder.name not in keep for one in self._sweep(folder, dry)]
        for folder in sorted(self.work.iterdir()):
            if folder.is_dir() and folder.name not in keep:
                gone += self._sweep(folder, dry)
        swept = {name for name, _ in gone}
        users = keep | {folder.name for folder in self.work.iterdir() if folder.is_dir() and f"work/{folder.name}" not in swept}
        for kind in NOTES:
            used = self.used(kind, users)
            for folder in sorted((self.root / kind).iterdir()):
                if folder.is_dir() and folder.name not in used:
                    gone += self._sweep(folder, dry)
        return gone

    def used(self, kind: str, names: set[str]) -> set[str]:
        """The annotations or teachers that artifacts of these names use, finished or unfinished."""
        used: set[str] = set()
        for name in names:
            if (self.artifacts / name).is_dir():
                used.update(self.read_card(self.artifacts / name).get(kind, []))
            elif (notes := self.work / name / NOTES[kind]).is_file():
                used.update(json.loads(notes.read_text(encoding="utf-8")))
        return used

    def _sweep(self, folder: Path, dry: bool) -> Iterator[tuple[str, int]]:
        """Discard one folder under the lock of its name; nothing where a process holds that."""
        beside = folder.parent if folder.parent == self.annotations else self.work
        with open(beside / f"{folder.name}.lock", "a", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            yield f"{folder.parent.name}/{folder.name}", sum(path.stat().st_size for path in files_below(folder))
            if not dry:
                self._discard(folder)
            (beside / f"{folder.name}.lock").unlink(missing_ok=True)

    def remove(self, name: str) -> Path:
        """Remove one artifact; one that others came from is refused, unless it is damaged (its address will be made again)."""
        try:
            artifact = self.get(name)
        except BadInput:
            folder = self.artifacts / name
            if not name or folder.parent != self.artifacts or not folder.is_dir():
                raise
        else:
            folder = artifact.folder
            users = [other.name for other in self.all() if artifact.address in other.parents()]
            if users:
                raise BadInput(f"{artifact.name} is what {', '.join(users)} came from; remove those first")
        self._discard(folder)
        return folder

    def _discard(self, folder: Path) -> None:
        """Out of sight by one rename, then deleted: a kill leaves no half artifact."""
        aside = self.work / f"discarded-{folder.name}-{os.getpid()}"
        os.rename(folder, aside)
        shutil.rmtree(aside, ignore_errors=True)
