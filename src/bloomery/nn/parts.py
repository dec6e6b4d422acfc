"""A model in a folder, one part at a time: what a step over its blocks reads before each of them and writes after it.

A part is a block, such as `blocks.3`, or one of two others: OPENING is what stands before the blocks (and between an encoder and its
decoder), CLOSING what stands after them. What is not here has shapes alone (device "meta").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.nn import hf, packed
from bloomery.nn.config import Config
from bloomery.nn.empty import emptied
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Quantized
from bloomery.nn.saving import digest_of, fingerprint, stored

OPENING, CLOSING = "opening", "closing"
BLOCK = re.compile(r"((?:encoder\.)?blocks\.\d+)\.")
LAST = ("norm.", "transform.", "head.")
CHUNK = 1 << 24  # bytes copied at a time


def part_of(name: str) -> str:
    """The part that a parameter, a buffer or a site belongs to, by its name."""
    if block := BLOCK.match(name):
        return block[1]
    return CLOSING if name.startswith(LAST) or f"{name}." in LAST else OPENING


class Source:
    """A model's folder, native or of Hugging Face, whose tensors are read when they are asked for; BadInput where it is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        native = (self.folder / "model.json").is_file()
        try:
            self.cfg = Config.read(self.folder / "model.json") if native else hf.config_of(self.folder)
        except (TypeError, ValueError, OSError) as error:
            raise BadInput(f"{self.folder / 'model.json'} does not describe a model: {error}") from error
        if not native and hf.codes_of(self.folder):
            mend = "bloomery.load(...).save(...) makes a folder of it that can be"
            raise BadInput(f"{self.folder} holds codes, which are not read part by part; {mend}")
        self.files = {name: file for file in hf.weight_files(self.folder) for name in _names(file)}
        self.linears: dict[str, Any] = packed.linears(self.folder) if native else {}
        self.mixers = packed.mixers(self.folder) if native else {}
        if native:
            held = {part for name in self.linears for part in packed.stored_names(name)}
            self.table = {name: [name] for name in self.files if name not in held}
        else:
            self.table, doubles = hf.origins(self.cfg, self.files, self.folder)
            for name, ours in doubles.items():
                hf.tied(name, self._raw([name])[name], self._native(ours), self.folder)

    @property
    def names(self) -> set[str]:
        """Native names of all tensors, those of packed linears as if they were dense."""
        return {*self.table, *(f"{name}.weight" for name in self.linears)}

    def read(self, names: Iterable[str], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        """Native tensors, dense and in `dtype` where they are numbers; all of them in memory of their own."""
        found = {}
        for name in names:
            linear = name.removesuffix(".weight")
            t = self._small(linear).dense() if linear in self.linears else self._native(name)
            found[name] = t.to(dtype, copy=True) if t.is_floating_point() else t.clone()
        return found

    def _small(self, name: str) -> Any:
        state = self._raw(sorted(packed.stored_names(name) & self.files.keys()))
        return packed.take_one(name, self.linears[name], state, self.folder)

    def _native(self, name: str) -> Tensor:
        parts = [self._raw([there])[there] for there in self.table[name]]
        return parts[0] if (self.folder / "model.json").is_file() else hf.joined(hf.tensors(self.cfg)[name], parts)

    def _raw(self, names: list[str]) -> dict[str, Tensor]:
        """Tensors as they lie there."""
        found = {}
        for name in names:
            try:
                with safe_open(str(self.files[name]), framework="pt") as opened:
                    found[name] = opened.get_tensor(name)
            except (OSError, SafetensorError) as error:
                raise BadInput(f"{self.files[name]} cannot be read ({error}); make the model again") from error
        return found


def _names(file: Path) -> list[str]:
    try:
        with safe_open(str(file), framework="pt") as opened:
            return list(opened.keys())
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{file} is not a complete file of weights ({error}); make the model again or give another folder") from error


class Parts:
    """A model whose parts are fetched from a folder and let go, and if `work` is given, written there as they are let go.

    `net` is the model; it computes with whatever parts are here. Matrices are written in the type `rest`.
    """

    def __init__(self, folder: Path, work: Path | None = None, rest: torch.dtype | None = None) -> None:
        self.source, self.work, self.rest = Source(folder), work, rest
        cfg = self.source.cfg
        if cfg.modules:
            raise BadInput("the model has modules of a recipe, which are not read part by part; export it first")
        self.net = Transformer(cfg, None).eval()
        self.shapes = {name: tuple(t.shape) for name, t in self.net.state_dict().items() if not (cfg.tied and name == "head.weight")}
        if odd := sorted(self.shapes.keys() ^ self.source.names):
            what = "missing" if odd[0] in self.shapes else "not known"
            where = f"the weights in {folder} do not fit their configuration"
            raise BadInput(f"{where}: {odd[0]} is {what}, one of {len(odd)} such; take both from the same model")
        self.here: set[str] = set()
        self.kept: set[str] = set()  # linears that stay as they are stored, if that is in few bits
        self.written: list[Path] = []
        self.small: dict[str, dict[str, Any]] = {}  # what is said of each packed linear
        self.mixers: dict[str, dict[str, Any]] = {}  # and of what each attention rounds
        self.fingerprints: dict[str, str] = {}
        if work is not None:
            work.mkdir(parents=True, exist_ok=True)

    @property
    def every(self) -> list[str]:
        """All parts, in the order of the forward pass but for OPENING, which is wherever it is needed."""
        blocks = dict.fromkeys(part for name in self.shapes if (part := part_of(name)) not in (OPENING, CLOSING))
        return [OPENING, *sorted(blocks, key=lambda name: (not name.startswith("encoder."), int(name.rsplit(".", 1)[1]))), CLOSING]

    def names(self, part: str) -> list[str]:
        """Parameters and buffers of a part."""
        return [name for name in self.shapes if part_of(name) == part]

    @property
    def rounding(self) -> set[str]:
        """Linears that round their inputs."""
        return {name for name, about in self.source.linears.items() if about.get("inputs")}

    def keep(self, names: Iterable[str]) -> None:
        """These linears are written as they lie in the folder, where they are stored in few bits there."""
        self.kept |= set(names)

    def fetch(self, part: str) -> None:
        """Reads the weights of a part, unless they are here."""
        if part in self.here:
            return
        state = self.source.read(self.names(part))
        for name, t in state.items():
            if tuple(t.shape) != self.shapes[name]:
                where = f"the weights in {self.source.folder} do not fit their configuration"
                raise BadInput(f"{where}: {name} should be {self.shapes[name]} and is {tuple(t.shape)}; take both from the same model")
        self.net.load_state_dict(state, strict=False, assign=True)
        self.here.add(part)
        if self.net.cfg.tied and OPENING in self.here:
            self.net.head.weight = self.net.embed.weight
        for name, about in self.source.linears.items():
            if part_of(name) == part and (about.get("inputs") or name in self.kept):
                unit = self.net.get_submodule(name)
                self.net.set_submodule(name, Quantized(self.source._small(name), unit.bias, unit.weight.dtype))
        for name, rounds in self.source.mixers.items():
            if part_of(f"{name}.") == part:
                self.net.get_submodule(name).rounds = rounds

    def leave(self, part: str) -> None:
        """Writes a part, where it is to be written, and lets its memory go."""
        if self.work is not None:
            self._write(part)
        for name in {name.rsplit(".", 1)[0] for name in self.names(part)}:
            unit = self.net.get_submodule(name)
            if isinstance(unit, Quantized):
                self.net.set_submodule(name, torch.nn.Linear(unit.in_features, unit.out_features, unit.bias is not None, device="meta"))
            else:
                emptied(unit, "meta")
        if self.net.cfg.tied and part == OPENING:
            self.net.head.weight = self.net.embed.weight
        self.here.discard(part)

    def _write(self, part: str) -> None:
        own = set(self.names(part))
        state = {name: t.detach().cpu().contiguous() for name, t in self.net.state_dict().items() if name in own}
        units = {name: self.net.get_submodule(name) for name in (name.rsplit(".", 1)[0] for name in state)}
        small = {name: unit.packed for name, unit in units.items() if isinstance(unit, Quantized)}
        self.fingerprints |= {name: fingerprint(t) for name, t in state.items()}
        file = self.work / f"{part}.safetensors"
        save_file(stored(state, small, self.rest), str(file), metadata={"format": "pt"})
        self.written.append(file)
        self.small |= {name: one.about() for name, one in small.items()}
        self.mixers |= {name: one.about() for name, one in packed.rounding(self.net).items()}

    def close(self, out: Path, skipped: Mapping[str, str]) -> str:
        """Makes one folder of what was written, removes the rest, and returns the digest of the whole (see nn/saving.py)."""
        join(self.written, out / "model.safetensors")
        self.net.cfg.write(out / "model.json")
        if self.small or self.mixers:
            packed.describe(out, self.small, skipped, self.mixers)
        for file in self.written:
            file.unlink()
        return digest_of(self.fingerprints)


def digest(folder: Path) -> str:
    """The digest of the model in a folder, read tensor by tensor."""
    source = Source(folder)
    return digest_of({name: fingerprint(t) for one in sorted(source.names) for name, t in source.read([one]).items()})


def join(parts: Iterable[Path], out: Path) -> None:
    """One safetensors file of several, which are copied piece by piece; larger numbers come first, as the format's own writer has them."""
    places: list[tuple[int, str, dict[str, Any], Path, int]] = []
    for part in parts:
        with part.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            told = json.loads(file.read(size))
        told.pop("__metadata__", None)
        for name, about in told.items():
            begin, end = about["data_offsets"]
            count = 1
            for side in about["shape"]:
                count *= side
            places.append((-(end - begin) // max(count, 1), name, about, part, 8 + size + begin))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    places.sort(key=lambda one: one[:2])
    for _, name, about, _, _ in places:
        length = about["data_offsets"][1] - about["data_offsets"][0]
        header[name] = {**about, "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with out.open("wb") as whole:
        whole.write(len(text).to_bytes(8, "little") + text)
        for _, _, about, part, start in places:
            left = about["data_offsets"][1] - about["data_offsets"][0]
            with part.open("rb") as file:
                file.seek(start)
                while left:
                    left -= whole.write(file.read(min(CHUNK, left)))
