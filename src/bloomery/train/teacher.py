"""Teachers of a distillation: one that is run once and remembered on disk, and one whose tokens have other numbers.

A remembered teacher's folder holds files of records, one for each row of a batch, appended as rows are first met; every process writes a
file of its own and reads all that are there when it begins. A record is a key (16 bytes: a hash of all that decides what a causal teacher
says of the row), the number of trained tokens (uint32), their likeliest ids (uint16, or uint32 for a vocabulary past 65,536) and log-
probabilities (float16). A file that was torn by a kill is read up to its last whole record.

Shapes: B rows, T tokens, N trained tokens, V vocabulary of the student, K likeliest tokens.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bloomery.seams import Batch

KEY, HEAD = 16, 20  # bytes of a key, and of it with the number of tokens
ROW = ("inputs", "positions", "documents", "weights")  # what decides what is stored of a row


class Remembered(nn.Module):
    """A teacher that is made and run for rows alone that nobody has met before; `top` and `temperature` are those of every question."""

    def __init__(self, make: Callable[[], nn.Module], vocab: int, folder: Path, top: int, temperature: float) -> None:
        super().__init__()
        self.make, self.vocab, self.folder, self.temperature = make, vocab, Path(folder), temperature
        self.top = min(top or vocab, vocab)
        self.kind = np.dtype("<u2" if vocab <= 1 << 16 else "<u4")
        self.asked = self.met = 0  # rows that were asked for, and those of them that were known
        self.teacher: list[nn.Module] = []  # no part of this module: it is not there before it is needed
        self.folder.mkdir(parents=True, exist_ok=True)
        self.known: dict[bytes, tuple[Path, int, int]] = {}  # file, place of the first id, tokens
        for file in sorted(self.folder.glob("*.rows")):
            self.known |= records(file, self.top * (self.kind.itemsize + 2))
        self.own = self.folder / f"{os.getpid()}-{os.urandom(4).hex()}.rows"

    @property
    def head_weight(self) -> Tensor:
        """As long as the vocabulary, and empty."""
        return torch.empty(self.vocab, 0)

    @torch.no_grad()
    def likeliest(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Log-probabilities (N, K), fp32, and ids (N, K) of the trained tokens of a batch, row after row, rounded as they are stored
        whether they were known or not."""
        keys, used_BT = [key_of(batch, row) for row in range(len(batch.inputs))], batch.weights > 0
        new = [row for row, key in enumerate(keys) if key not in self.known and bool(used_BT[row].any())]
        self.asked, self.met = self.asked + len(keys), self.met + len(keys) - len(new)
        if new:
            self.meet(batch, new, keys, used_BT)
        found = [self.read(key) for row, key in enumerate(keys) if bool(used_BT[row].any())]
        ids = np.concatenate([one for one, _ in found]) if found else np.zeros((0, self.top), self.kind)
        logs = np.concatenate([one for _, one in found]) if found else np.zeros((0, self.top), np.float16)
        device = batch.inputs.device
        return torch.from_numpy(logs.astype(np.float32)).to(device), torch.from_numpy(ids.astype(np.int64)).to(device)

    def meet(self, batch: Batch, rows: list[int], keys: list[bytes], used_BT: Tensor) -> None:
        """Asks the teacher about some rows, and writes down what it says."""
        device = batch.inputs.device
        if not self.teacher:
            self.teacher.append(self.make().to(device).requires_grad_(False).eval())
        net: Any = self.teacher[0]
        hidden_BTD = net(batch.inputs[rows], batch.positions[rows], batch.documents[rows])
        with self.own.open("ab") as file:
            for hidden_TD, row in zip(hidden_BTD, rows, strict=True):
                log_NV = F.log_softmax(net.logits(hidden_TD[used_BT[row]]).float() / self.temperature, -1)
                log_NK, ids_NK = log_NV.topk(self.top, dim=-1)
                ids, logs = ids_NK.cpu().numpy().astype(self.kind), log_NK.cpu().numpy().astype("<f2")
                file.write(keys[row] + struct.pack("<I", len(ids)))
                self.known[keys[row]] = (self.own, file.tell(), len(ids))
                file.write(ids.tobytes() + logs.tobytes())

    def read(self, key: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Ids and log-probabilities (N, K) of a row that is known."""
        path, place, count = self.known[key]
        with path.open("rb") as file:
            file.seek(place)
            ids = np.frombuffer(file.read(count * self.top * self.kind.itemsize), self.kind).reshape(count, self.top)
            return ids, np.frombuffer(file.read(count * self.top * 2), "<f2").reshape(count, self.top)


def key_of(batch: Batch, row: int) -> bytes:
    """A hash of a row: its tokens with their places and documents, and which of them are trained."""
    total = hashlib.blake2b(digest_size=KEY)
    for name in ROW:
        t = getattr(batch, name)[row].cpu()
        total.update((t > 0 if name == "weights" else t.long()).contiguous().numpy().tobytes())
    return total.digest()


def records(file: Path, each: int) -> dict[bytes, tuple[Path, int, int]]:
    """Where the records of a file lie, `each` being the bytes of a token; what follows the last whole one is passed over."""
    found, size = {}, file.stat().st_size
    with file.open("rb") as opened:
        at = 0
        while at + HEAD <= size:
            opened.seek(at)
            head = opened.read(HEAD)
            (count,) = struct.unpack("<I", head[KEY:])
            if at + HEAD + count * each > size:
                break
            found[head[:KEY]] = (file, at + HEAD, count)
            at += HEAD + count * each
    return found


class Aligned(nn.Module):
    """A teacher that numbers its tokens otherwise, or has more of them, asked and answering in the student's numbers.

    What it thinks of tokens that the student lacks is divided among the others in proportion.
    """

    def __init__(self, net: nn.Module, ids_V: Tensor) -> None:
        super().__init__()
        self.net = net
        self.register_buffer("ids", ids_V, persistent=False)

    @property
    def head_weight(self) -> Tensor:
        """As long as the student's vocabulary, and empty."""
        return torch.empty(len(self.ids), 0)

    @property
    def blocks(self) -> nn.ModuleList:
        """The teacher's own, for a loss that looks inside it."""
        return self.net.blocks

    @property
    def cfg(self) -> Any:
        """The teacher's own."""
        return self.net.cfg

    def forward(self, inputs_BT: Tensor, positions_BT: Tensor | None = None, documents_BT: Tensor | None = None) -> Tensor:
        return self.net(self.ids[inputs_BT], positions_BT, documents_BT)

    def logits(self, hidden: Tensor) -> Tensor:
        return self.net.logits(hidden)[..., self.ids]
