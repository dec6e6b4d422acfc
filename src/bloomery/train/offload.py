"""The driver of the optim seam where masters and states do not lie with the working weights: in the host's memory, or on a disk.

Gradients are summed where the model is. An update brings them to the masters piece by piece, and the new working weights back. On a
machine whose device is the processor, device and host are one memory, and only the disk is another place; the numbers are those of
`Optimizer` bit for bit, for the same operations run on the same pieces.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bloomery.seams import Rng
from bloomery.train.optimizer import Optimizer
from bloomery.train.window import Window, layer, ranges

PAGE = mmap.ALLOCATIONGRANULARITY


class Shelf:
    """Tensors whose bytes are those of files in `folder`: what is read or written of one is in memory until `drop`."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.maps: dict[str, tuple[mmap.mmap, int]] = {}  # by name, with the bytes of a number

    def put(self, name: str, t: Tensor) -> Tensor:
        """The same numbers, on the disk. An earlier file of that name is replaced."""
        size = max(1, t.numel() * t.element_size())
        path = self.folder / f"{len(self.maps):04d}.bin"
        with path.open("wb+") as file:
            file.truncate(size)
            mapped = mmap.mmap(file.fileno(), size)
        self.maps[name] = mapped, t.element_size()
        there = torch.frombuffer(mapped, dtype=t.dtype, count=t.numel()).view(t.shape) if t.numel() else t.clone()
        flat, into = t.reshape(-1), there.reshape(-1)
        for at in range(0, t.numel(), 1 << 22):
            into[at : at + (1 << 22)].copy_(flat[at : at + (1 << 22)])
            self.drop(name, at, at + (1 << 22))
        return there

    def drop(self, name: str, start: int = 0, stop: int | None = None) -> None:
        """Numbers `start` to `stop` need not be in memory any more; the system writes what has changed."""
        self._advise(mmap.MADV_DONTNEED, name, start, stop)

    def read_ahead(self, name: str, start: int, stop: int) -> None:
        """Numbers `start` to `stop` are needed soon."""
        self._advise(mmap.MADV_WILLNEED, name, start, stop)

    def resident(self) -> int:
        """Bytes of its files that this process has in memory, as Linux tells."""
        found, inside = 0, False
        for line in Path("/proc/self/smaps").read_text().splitlines():
            if "-" in line.split(" ")[0] and not line.endswith("kB"):
                inside = str(self.folder) in line
            elif inside and line.startswith("Rss:"):
                found += int(line.split()[1]) * 1024
        return found

    def _advise(self, what: int, name: str, start: int, stop: int | None) -> None:
        mapped, each = self.maps[name]
        begin = start * each // PAGE * PAGE
        end = len(mapped) if stop is None else min(len(mapped), -(-stop * each // PAGE) * PAGE)
        if begin < end:
            mapped.madvise(what, begin, end - begin)


class OffloadedOptimizer(Optimizer):
    """`Optimizer` whose flat buffers lie where `home.pieces` says; see seams.Parallel. Files go into `folder`."""

    def __init__(self, *given: Any, home: Any, folder: Path, **more: Any) -> None:
        super().__init__(*given, **more)
        self.pieces = home.pieces(len(self.master))
        self.device = self.work.device
        self.shelf = Shelf(folder) if self._any("disk") else None
        self.pool = ThreadPoolExecutor(1, "device") if self._who("device") else None
        self.running: list[Future] = []
        if self.device.type != "cpu":
            if self.work is self.master:  # float32: the working weights stay where they are
                self.master = self.master.to("cpu", copy=True)
            else:
                self.master = self.master.to("cpu")
        self.factors = None if self.factors is None else self.factors.to(self.master.device)
        resident = getattr(home, "resident", 0)
        if self.shelf is not None and (resident or self.master is not self.work):
            alone = self.work is self.master
            self.master = self.shelf.put("master", self.master)
            if resident:
                self.work = self.master if alone else self.shelf.put("work", self.work)
        self.kept: dict[str, Tensor] = {}  # states by name, where they lie
        for owner, state in self.states.items():
            for key, s in state.items():
                name = f"{owner}|{key}"
                self.kept[name] = state[key] = self.shelf.put(name, s) if self.shelf is not None else s.to(self.master.device)
        self.window = self._window(resident, home.together) if resident else None

    def _window(self, resident: int, together: int) -> Window:
        """Blocks on the shelf, of which so many are in memory."""
        still = {name: p for name, p in self.net.named_parameters() if layer(name) is not None and not p.requires_grad}
        for name, p in still.items():
            p.data = self.shelf.put(name, p.data)
        for one in self.claims:
            self.parameters[one.name].data = self._view(self.work, one)
        lies = ranges(self.claims, still, len(self.net.blocks), "master" if self.work is self.master else "work")
        return Window(self.net.blocks, lies, self.shelf, resident, together)

    def _any(self, place: str) -> bool:
        return any(where == place for _, _, where, _ in self.pieces)

    def _who(self, worker: str) -> bool:
        return any(who == worker for _, _, _, who in self.pieces)

    def places(self) -> dict[str, int]:
        """Bytes of masters and states, by where they lie between two updates; in float32 the masters of a processor are the weights, which
        count where they lie on the disk, too."""
        where, held = "disk" if self.shelf is not None else "host", {id(t): t for t in (self.master, self.work)}
        if self.window is None:
            del held[id(self.work)]
        return {where: sum(t.numel() * t.element_size() for t in held.values()) + self.state_bytes()}

    @torch.no_grad()
    def step(self, rate: float, t: int) -> None:
        """As `Optimizer.step`; what the device updates runs beside what the host does."""
        super().step(rate, t)
        running, self.running = self.running, []
        for one in running:
            one.result()
        for owner, state in self.states.items():
            for key, s in state.items():
                if s is not (kept := self.kept[f"{owner}|{key}"]):  # a method may replace its state instead of writing into it
                    state[key] = kept.copy_(s)
        if self.shelf is not None:
            self._drop(("master", "work", *self.kept))
        if self.window is not None:
            self.window.empty()

    def _advance(self, start: int, stop: int, state: dict[str, Tensor], rate: float, t: int, rng: Rng) -> None:
        worker = next(who for begin, end, _, who in self.pieces if begin <= start < end)
        if worker == "device":
            self.running.append(self.pool.submit(self._there, start, stop, dict(state), rate, t, rng))
            return
        super()._advance(start, stop, state, rate, t, rng)
        if self.shelf is not None:
            self._drop(("master", "work", *(f"|{key}" for key in state)), start, stop)

    def _drop(self, names: Iterable[str], start: int = 0, stop: int | None = None) -> None:
        """Of the element-wise part; states begin where that does."""
        for name in names:
            if name in self.shelf.maps:
                before = 0 if name in ("master", "work") or stop is None else self.loose
                self.shelf.drop(name, start - before, None if stop is None else stop - before)

    @torch.no_grad()
    def _there(self, start: int, stop: int, state: dict[str, Tensor], rate: float, t: int, rng: Rng) -> None:
        """A piece is brought to the device, updated there, and brought back."""
        kept = {key: s.to(self.device, non_blocking=True) for key, s in state.items()}
        moved = dict(kept)
        p = self.master[start:stop].to(self.device, non_blocking=True)
        g, decayed, factor = self.grad[start:stop], p[: max(0, self.decayed - start)], self._factor(start, stop)
        self._move(self.rest, g, p, decayed, moved, rate, t, rng.child(start), None if factor is None else factor.to(self.device))
        for key, s in moved.items():
            if s.data_ptr() != state[key].data_ptr():
                state[key].copy_(s)
        if p.data_ptr() != self.master[start:stop].data_ptr():
            self.master[start:stop].copy_(p)
        self._round(start, stop)
