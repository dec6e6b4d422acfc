"""Checkpoints: a folder with tensors (safetensors, by torch.distributed.checkpoint) and state (JSON), complete or absent.

Each is written under a temporary name, brought to the disk and renamed, so a kill or a full disk at any instant leaves the older ones
whole. Training goes on meanwhile: what is written is a copy, taken at once. Nothing is pickled. The state carries the hash of the
tensors: a folder that does not agree with itself is passed over.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bloomery.core.errors import CheckFailed
from bloomery.core.files import sha256_file, to_disk

STATE, NAME, TORN = "state.json", "step-", "torn-"
SINGLE = "torch.distributed is disabled, unavailable or uninitialized"  # torch warns of a single process, which is what was asked for


class Checkpoints:
    """The checkpoints of one run in `folder`: the newest `keep` (0: all), and the newest of a step that `every` divides.

    `group` is a process group of CPU tensors that nothing else uses, where several ranks write together; each calls the same verbs in
    the same order, and rank 0 of it publishes.
    """

    def __init__(self, folder: Path, keep: int = 2, every: int = 0, group: Any = None) -> None:
        self.folder, self.keep, self.every, self.group = Path(folder), keep, every, group
        self.first = group is None or dist.get_rank(group) == 0
        self.thread: ThreadPoolExecutor | None = None
        self.writing: tuple[int, Future] | None = None
        self.done: list[int] = []
        self.damaged: list[Path] = []  # what `newest` has passed over; the next checkpoint takes their place

    def save(self, step: int, tensors: Mapping[str, Tensor], state: dict[str, Any]) -> None:
        """Write one checkpoint; it exists when this returns, whatever happens after. It goes before an existing one of this step."""
        self.begin(step, tensors, state)
        self.wait()

    def begin(self, step: int, tensors: Mapping[str, Tensor], state: dict[str, Any]) -> None:
        """Copy everything now and write it while the caller goes on; waits for the write before it, and raises what that one met."""
        text = json.dumps(state, allow_nan=False)
        self.wait()
        copied = {name: t.detach().to("cpu", copy=True) for name, t in tensors.items()}
        self.thread = self.thread or ThreadPoolExecutor(1, "checkpoint")
        self.writing = (step, self.thread.submit(self._write, step, copied, text))

    @property
    def busy(self) -> bool:
        """Whether a write is under way."""
        return self.writing is not None and not self.writing[1].done()

    def wait(self) -> None:
        """Until nothing is under way; raises what the write met."""
        if self.writing is not None:
            (step, future), self.writing = self.writing, None
            future.result()
            self.done.append(step)

    def written(self) -> list[int]:
        """Steps whose checkpoints are complete since this was last asked; raises what a write met."""
        if self.writing is not None and self.writing[1].done():
            self.wait()
        found, self.done = self.done, []
        return found

    def newest(
        self, anchored: bool = False, into: Mapping[str, Tensor] | None = None, sound: Callable[[dict[str, Any]], None] | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and state of the newest complete checkpoint, None when there is none; `anchored`: of a step that `every` divides.

        Ranks that hold parts of tensors give them as `into`, and each gets what belongs there whoever wrote it. `sound` looks at the
        state before any tensor is read, and raises what it has to say; CheckFailed where `into` wants what was not written.
        """
        self.wait()
        for folder in self._folders():
            if anchored and not self._anchor(folder):
                continue
            try:
                state = json.loads((folder / STATE).read_text(encoding="utf-8"))
                whole = state.pop("sha256") == hash_of(folder)
            except (OSError, ValueError, KeyError, AttributeError):
                whole = False
            if not whole:
                self.damaged += [folder] if folder not in self.damaged else []
                continue
            if sound is not None:
                sound(state)
            return read(folder, into, self.group), state
        return None

    def forget_after(self, step: int) -> None:
        """Remove the checkpoints of later steps."""
        self.wait()
        if self.first:
            for folder in self._folders():
                if number(folder) > step:
                    remove([folder])

    def has(self, step: int) -> bool:
        """Whether there is a complete one of this step."""
        return any(number(folder) == step for folder in self._folders())

    def bytes(self) -> int:
        """Size of the newest checkpoint; 0 where there is none."""
        return sum(path.stat().st_size for folder in self._folders()[:1] for path in folder.iterdir())

    def _write(self, step: int, tensors: dict[str, Tensor], text: str) -> None:
        torn = self.folder / f"{TORN}{step}"
        try:
            if self.first:
                self.folder.mkdir(parents=True, exist_ok=True)
                remove(self.folder.glob(f"{TORN}*"))
                torn.mkdir()
            self._together()
            write(torn, tensors, self.group)
            self._together()
            if self.first:
                self._publish(step, torn, text)
            self._together()
        except BaseException:
            if self.first:
                shutil.rmtree(torn, ignore_errors=True)
            raise

    def _publish(self, step: int, torn: Path, text: str) -> None:
        state = {"sha256": hash_of(torn), **json.loads(text)}
        (torn / STATE).write_text(json.dumps(state) + "\n", encoding="utf-8")
        for path in (*torn.iterdir(), torn):
            to_disk(path)
        os.rename(torn, self._name(step))
        to_disk(self.folder)
        folders = self._folders()
        sound = [one for one in folders if one not in self.damaged]
        kept = sound[: self.keep or None] + [one for one in sound if self._anchor(one)][:1]
        remove(one for one in folders if one not in kept)

    def _name(self, step: int) -> Path:
        """A name that comes after all of this step: none is ever overwritten."""
        plain = f"{NAME}{step:012d}"
        there = [one.name for one in self._folders() if number(one) == step]
        return self.folder / (f"{plain}.{int((max(there) + '.0').split('.')[1]) + 1:06d}" if there else plain)

    def _anchor(self, folder: Path) -> bool:
        return bool(self.every) and number(folder) % self.every == 0

    def _folders(self) -> list[Path]:
        """Newest first."""
        return sorted(self.folder.glob(f"{NAME}*"), reverse=True)

    def _together(self) -> None:
        if self.group is not None:
            dist.barrier(self.group)


def number(folder: Path) -> int:
    """The step of a checkpoint's folder."""
    return int(folder.name.removeprefix(NAME).split(".")[0])


def remove(folders: Iterable[Path]) -> None:
    """With all that is in them; first under a name that no reader takes for a checkpoint."""
    for folder in list(folders):
        if folder.name.startswith(NAME):
            folder = folder.rename(folder.with_name(f"{TORN}{folder.name}"))
        shutil.rmtree(folder)


def hash_of(folder: Path) -> str:
    """sha256 over the names and hashes of all files of tensors; OSError where there is none."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no tensors")
    return hashlib.sha256("".join(f"{path.name} {sha256_file(path)}\n" for path in files).encode()).hexdigest()


def write(folder: Path, tensors: Mapping[str, Tensor], group: Any = None) -> None:
    """Each rank's parts as a file of their own; OSError of the disk as it is."""
    from torch.distributed.checkpoint import CheckpointException, HuggingFaceStorageWriter, save

    warnings.filterwarnings("ignore", SINGLE)
    try:
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        save(dict(tensors), storage_writer=writer, process_group=group, no_dist=group is None)
    except CheckpointException as wrong:
        raise cause(wrong) from wrong


def read(folder: Path, into: Mapping[str, Tensor] | None = None, group: Any = None) -> dict[str, Tensor]:
    """All tensors of a folder, or those parts that `into` has; CheckFailed where they are not there."""
    from torch.distributed.checkpoint import CheckpointException, HuggingFaceStorageReader, load

    if into is None:
        known = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
        into = {name: torch.empty(one.size, dtype=one.properties.dtype) for name, one in known.items()}
    found = dict(into)
    warnings.filterwarnings("ignore", SINGLE)
    try:
        load(found, storage_reader=HuggingFaceStorageReader(str(folder)), process_group=group, no_dist=group is None)
    except CheckpointException as wrong:
        raise CheckFailed(f"{folder} does not hold what is asked of it ({cause(wrong)}); remove that folder to begin anew") from wrong
    return found


def cause(wrong: Any) -> Exception:
    """What the first rank that failed met: torch wraps it in something that is no Exception."""
    met = next(iter(wrong.failures.values()))[0]
    return met if isinstance(met, Exception) else RuntimeError(str(met))
