"""The store: content-addressed artifacts, each an immutable folder with a card. Folders are the truth.

store/artifacts/<stage>-<16 digits>/   complete: it appears by one rename, its card.json inside
store/work/<stage>-<16 digits>/        being made, or interrupted and resumable; a lock file beside it
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
MARK = "BLOOMERY_STORE"


@dataclass(frozen=True)
class Artifact:
    """A finished result; `address` is the full hash, `folder` is read-only by habit."""

    address: str
    folder: Path
    card: dict[str, Any]

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
    """Opens (and makes) the store at `root`; refuses a folder that holds something else."""

    def __init__(self, root: str | Path):
        self.root = Path(root).expanduser()
        if self.root.exists() and not self.root.is_dir():
            raise BadInput(f"{self.root}: the store must be a folder, and this is a file; choose another with --store")
        if self.root.is_dir() and any(self.root.iterdir()) and not (self.root / MARK).exists():
            raise BadInput(f"{self.root}: this folder is not empty and not a bloomery store; choose another with --store")
        try:
            for name in ("artifacts", "work", "runs"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            (self.root / MARK).touch()
        except OSError as wrong:
            raise BadInput(f"{self.root}: the store cannot be written ({wrong.strerror}); choose another place with --store") from None
        self.artifacts, self.work, self.runs = (self.root / name for name in ("artifacts", "work", "runs"))

    # ---- reading

    def find(self, stage: str, address: str) -> Artifact | None:
        """The artifact of an address, None where there is none; a damaged one is an error, never silently used."""
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
        try:
            card = json.loads((folder / CARD).read_text(encoding="utf-8"))
            address, files = card["address"], card["files"]
        except (OSError, ValueError, KeyError, TypeError):
            raise BadInput(f"{folder.name} is damaged: its card.json is missing or cannot be read; {mend}") from None
        for name, (size, _) in files.items():
            path = folder / name
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                raise BadInput(
                    f"{folder.name} is damaged: {name} has {'gone' if found is None else f'{found:,} bytes'}, {size:,} expected; {mend}"
                )
        return Artifact(address, folder, card)

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
            known = list(folders) + [step for run in self.run_records() for step in run["made"]]
            raise BadInput(f"{self.root}: there is no artifact or step '{name}'; {near(name, known)}")
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
        """The last run of a recipe: step -> artifact name; these and all that they came from are kept by `gc`."""
        write_json(self.runs / f"{recipe}.json", {"recipe": resolved, "made": made})

    def run_records(self) -> list[dict[str, Any]]:
        """Every recipe's last run, the latest last."""
        found = []
        for path in sorted(self.runs.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
            try:
                found.append({"name": path.stem, **json.loads(path.read_text(encoding="utf-8"))})
            except ValueError:
                raise BadInput(f"{path} is damaged: it is not JSON; remove the file, then run the recipe again") from None
        return found

    def kept(self) -> set[str]:
        """Names of the artifacts that recorded runs need, with everything that those came from."""
        by_address = {artifact.address: artifact for artifact in self.all()}
        by_name = {artifact.name: artifact for artifact in by_address.values()}
        waiting = [by_name[name] for run in self.run_records() for name in run["made"].values() if name in by_name]
        keep: set[str] = set()
        while waiting:
            artifact = waiting.pop()
            if artifact.name not in keep:
                keep.add(artifact.name)
                waiting += [by_address[parent] for parent in artifact.parents() if parent in by_address]
        return keep

    def collect(self, dry: bool = False) -> list[tuple[str, int]]:
        """Remove artifacts that no recorded run needs, and work that nobody holds; name and bytes of each."""
        keep, gone = self.kept(), []
        unneeded = [folder for folder in self.artifacts.iterdir() if folder.name not in keep]
        idle = [folder for folder in self.work.iterdir() if folder.is_dir() and not self._held(folder.name)]
        for folder in sorted(unneeded + idle):
            gone.append((f"{folder.parent.name}/{folder.name}", sum(path.stat().st_size for path in files_below(folder))))
            if not dry:
                self._discard(folder)
                (self.work / f"{folder.name}.lock").unlink(missing_ok=True)
        return gone

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

    def _held(self, name: str) -> bool:
        try:
            with open(self.work / f"{name}.lock", "a", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False

    def _discard(self, folder: Path) -> None:
        """Out of sight by one rename, then deleted: a kill leaves no half artifact."""
        aside = self.work / f"discarded-{folder.name}-{os.getpid()}"
        os.rename(folder, aside)
        shutil.rmtree(aside, ignore_errors=True)
