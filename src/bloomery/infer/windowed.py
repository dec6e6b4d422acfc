"""Feed-forwards whose neurons lie on disk: those that the newest tokens use are in memory, others are read when a token needs them.

P322 Alizadeh et al. 2023, arXiv 2312.11514 (LLM in a flash), for models whose activation is relu: a neuron whose activation is 0 adds
nothing. What stays in memory is the matrix that decides it (`gate`, or `up` without one) or a low-rank copy of that. A neuron that was
active within the last `window` tokens stays; its numbers lie together in the file, so that it is one read.

Differs: the predictor is a truncated singular value decomposition of the deciding matrix with a margin, not trained; at full rank it is
that matrix, and the answer the plain model's. No cost model of a device: bytes and reads are counted.

Shapes: N tokens, D width, F neurons, W numbers of a neuron's record, A active neurons, R rank.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.core.errors import BadInput
from bloomery.nn.empty import filled
from bloomery.nn.feedforward import FeedForward
from bloomery.nn.model import Transformer

FORM = "neurons.json"  # says what neurons.bin holds
DATA = "neurons.bin"
TYPES = {torch.float32: np.float32, torch.float16: np.float16}


def write(net: Transformer, folder: Path, bundled: bool = True) -> None:
    """The neurons of every layer, layer after layer: records one after the other where `bundled`, else part after part.

    BadInput for a model whose feed-forwards are not plain ones with relu and without biases, and for a type other than float32 and float16.
    """
    first, dtype = relu_of(net)[0], net.embed.weight.dtype
    if dtype not in TYPES:
        raise BadInput(f"neurons are kept on disk in float32 or float16, not {dtype}; load the model in one of them")
    with (folder / DATA).open("wb") as file:
        for mlp in relu_of(net):
            parts = [part.detach().cpu().numpy() for part in parts_of(mlp)]
            (np.concatenate(parts, 1) if bundled else np.stack(parts)).tofile(file)
    form = {"layers": len(net.blocks), "neurons": first.down.in_features, "width": net.cfg.width, "parts": 2}
    (folder / FORM).write_text(json.dumps(form | {"bundled": bundled, "type": str(dtype).removeprefix("torch.")}) + "\n", encoding="utf-8")


def relu_of(net: Transformer) -> list[FeedForward]:
    """The feed-forwards; BadInput where a neuron's activation is not 0 often enough to be left on disk, or it has a bias."""
    found = [block.mlp for block in net.blocks]
    for layer, mlp in enumerate(found):
        plain = type(mlp) is FeedForward and all(type(one) is nn.Linear and one.bias is None for one in mlp.children())
        if not plain or mlp.act is not F.relu or mlp.down.in_features != found[0].down.in_features:
            raise BadInput(f"layer {layer} is no plain feed-forward with relu and without biases, so its neurons cannot be left on disk")
    return found


def parts_of(mlp: FeedForward) -> list[Tensor]:
    """What is read of neurons, (F, D) each: up and down."""
    up = mlp.gate_up.weight.chunk(2)[1] if mlp.gated else mlp.up.weight
    return [up, mlp.down.weight.T]


def decider(mlp: FeedForward) -> Tensor:
    """(F, D) whose product with the input says by its sign which neurons are active."""
    return mlp.gate_up.weight.chunk(2)[0] if mlp.gated else mlp.up.weight


class Records:
    """A file of neurons, read by layer and number. Counted are `bytes` and `reads`, of numbers that lie together."""

    def __init__(self, folder: Path, net: Transformer) -> None:
        """BadInput where the file is not that of such a model."""
        try:
            form = json.loads((folder / FORM).read_text(encoding="utf-8"))
            shape = tuple(int(form[name]) for name in ("layers", "neurons", "width", "parts"))
            self.bundled, dtype = bool(form["bundled"]), str(net.embed.weight.dtype).removeprefix("torch.")
            L, F_, D, parts = shape
            if (L, D, parts) != (len(net.blocks), net.cfg.width, 2) or form["type"] != dtype:
                raise BadInput(f"{folder} holds the neurons of another model; write them again")
            layout = (L, F_, parts * D) if self.bundled else (L, parts, F_, D)
            self.data = np.memmap(folder / DATA, TYPES[net.embed.weight.dtype], "r", shape=layout)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{folder} holds no neurons ({type(error).__name__}); write them first") from error
        self.bytes = self.reads = 0

    def whole(self, layer: int) -> tuple[Tensor, Tensor]:
        """Up and down of a layer, (F, D) each."""
        data = self.data[layer]
        return tuple(torch.from_numpy(np.array(part)) for part in (np.split(data, 2, axis=1) if self.bundled else data))

    def read(self, layer: int, neurons: Sequence[int]) -> Tensor:
        """(A, W) records of neurons in ascending order."""
        numbers = np.asarray(neurons, np.int64)
        found = self.data[layer][numbers] if self.bundled else np.concatenate([part[numbers] for part in self.data[layer]], 1)
        runs = int((np.diff(numbers) != 1).sum()) + 1 if len(numbers) else 0
        self.bytes, self.reads = self.bytes + found.nbytes, self.reads + runs * (1 if self.bundled else len(self.data[layer]))
        return torch.from_numpy(np.ascontiguousarray(found))


@dataclass(frozen=True)
class Predictor:
    """Scores of neurons, x @ low.T @ high.T, (N, F); a neuron counts as active where its score is above -margin."""

    low_RD: Tensor
    high_FR: Tensor | None  # None: low is the deciding matrix itself
    margin: float = 0.0

    @staticmethod
    def of(mlp: FeedForward, rank: int = 0, margin: float = 0.0) -> Predictor:
        """Of the largest `rank` singular values; 0: of all, which predicts without a fault."""
        weight_FD = decider(mlp).detach().clone()
        if not 0 < rank < min(weight_FD.shape):
            return Predictor(weight_FD, None)
        left, values, right = torch.linalg.svd(weight_FD.float(), full_matrices=False)
        return Predictor(right[:rank].to(weight_FD.dtype), (left[:, :rank] * values[:rank]).to(weight_FD.dtype), margin)

    def scores(self, x_ND: Tensor) -> Tensor:
        low = F.linear(x_ND, self.low_RD)
        return low if self.high_FR is None else F.linear(low, self.high_FR)


class WindowedFeedForward(nn.Module):
    """In the place of a feed-forward: its neurons in a buffer of `room` records, most of which the newest tokens have used."""

    def __init__(self, mlp: FeedForward, records: Records, layer: int, window: int, room: int, predictor: Predictor) -> None:
        super().__init__()
        self.gated, self.records, self.layer, self.window, self.predictor = mlp.gated, records, layer, window, predictor
        self.width, self.neurons = mlp.down.out_features, mlp.down.in_features
        self.buffer = torch.empty(room, 2 * self.width, dtype=mlp.down.weight.dtype)
        self.slots: dict[int, int] = {}  # neuron -> its place in the buffer
        self.used: dict[int, int] = {}  # neuron -> the pass that used it last
        self.free = list(range(room))
        self.passes = 0

    def forward(self, x_BTD: Tensor, ctx: object = None) -> Tensor:
        x_ND = x_BTD.flatten(0, -2)
        scores_NF = self.predictor.scores(x_ND)
        active_F = (scores_NF > -self.predictor.margin).any(0)
        wanted, out_ND = active_F.nonzero()[:, 0].tolist(), torch.zeros_like(x_ND)
        self.passes += 1
        self._forget()
        there, missing = [one for one in wanted if one in self.slots], [one for one in wanted if one not in self.slots]
        if there:
            self._add(out_ND, x_ND, scores_NF, there, self.buffer[[self.slots[one] for one in there]])
        for at in range(0, len(missing), len(self.buffer)):  # so that no more than the buffer's size is in memory beside it
            some = missing[at : at + len(self.buffer)]
            records = self.records.read(self.layer, some)
            self._add(out_ND, x_ND, scores_NF, some, records)
            for neuron, record in zip(some, records, strict=True):
                if self.free:
                    self.slots[neuron] = self.free.pop()
                    self.buffer[self.slots[neuron]] = record
        for neuron in wanted:
            if neuron in self.slots:
                self.used[neuron] = self.passes
        return out_ND.view_as(x_BTD)

    def _forget(self) -> None:
        """Frees the places of neurons that no token of the window has used."""
        for neuron in [one for one, last in self.used.items() if last < self.passes - self.window]:
            self.free.append(self.slots.pop(neuron))
            del self.used[neuron]

    def _add(self, out_ND: Tensor, x_ND: Tensor, scores_NF: Tensor, neurons: list[int], records_AW: Tensor) -> None:
        up_AD, down_AD = records_AW.split(self.width, dim=1)
        hidden = F.linear(x_ND, up_AD)
        if self.gated:
            hidden = F.relu(scores_NF[:, neurons]) * hidden
        out_ND += F.relu(hidden) @ down_AD if not self.gated else hidden @ down_AD


class Windowed:
    """Leaves the neurons of `net` on disk between `with` and its end, when all are read back. Without gradients only.

    `window` passes (a token each, after the prompt) keep their neurons; `room` records at most are kept in memory for a layer (0: as many
    as there are), and as many more while a pass reads. `rank` and `margin` are the predictor's; with a gate it must be exact (rank 0).
    """

    def __init__(self, net: Transformer, folder: Path, window: int = 5, room: int = 0, rank: int = 0, margin: float = 0.0) -> None:
        if window < 0 or room < 0 or rank < 0 or margin < 0:
            raise BadInput(f"window, room, rank and margin must not be negative, got {window}, {room}, {rank} and {margin}")
        self.net, self.plain, self.records = net, relu_of(net), Records(folder, net)
        if rank and self.plain[0].gated:
            raise BadInput("a gate's numbers are a part of the answer, so it stays in memory whole; leave rank at 0")
        self.parts = [
            WindowedFeedForward(mlp, self.records, layer, window, room or mlp.down.in_features, Predictor.of(mlp, rank, margin))
            for layer, mlp in enumerate(self.plain)
        ]

    def __enter__(self) -> Self:
        for block, part, mlp in zip(self.net.blocks, self.parts, self.plain, strict=True):
            block.mlp = part
            filled(mlp, {name: torch.empty_like(p, device="meta") for name, p in mlp.named_parameters()})
        return self

    def __exit__(self, *_: object) -> None:
        for layer, (block, part, mlp) in enumerate(zip(self.net.blocks, self.parts, self.plain, strict=True)):
            up_FD, down_FD = self.records.whole(layer)
            into = {"gate_up.weight": torch.cat([part.predictor.low_RD, up_FD])} if mlp.gated else {"up.weight": up_FD}
            block.mlp = filled(mlp, into | {"down.weight": down_FD.T.contiguous()})

    @property
    def held(self) -> int:
        """Neurons in memory now, of all layers."""
        return sum(len(part.slots) for part in self.parts)

    @property
    def dense(self) -> int:
        """Bytes that a pass would read, were all neurons left on disk."""
        return self.records.data.nbytes
