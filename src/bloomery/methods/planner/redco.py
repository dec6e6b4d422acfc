"""How the matrices of a transformer are cut over processes, from their names and shapes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from bloomery.core.errors import BadInput

LAYER = re.compile(r"^.*?\.\d+(?=\.)")  # the path of a block: up to the first number
ATTENTION = ("attn", "attention", "mixer")  # parts of the name of a module that attends
EXPERT = ("expert",)  # of one that is, or holds, several feed-forward layers side by side
FIRST = ("gate", "up", "wi", "in")  # how a feed-forward layer's first matrix may be called: only asked where shapes do not tell


@dataclass(frozen=True)
class Redco:
    """Cut matrices that follow each other on outputs, then inputs, so that a block needs one all-reduce for attention and one for its MLP.

    P035 Tan et al. 2023, arXiv 2310.16355
    Differs: feed-forward matrices are paired by their shapes and order instead of alternating over the whole list; a pair is replicated
    whole where one of its matrices cannot be cut; feed-forward matrices without a partner (routers) and tables of positions and of
    relative biases are replicated; the experts of a layer ("expert" in the name) share one all-reduce; nothing is measured.
    Costs: a pass over the names.
    """

    vocabulary: bool = True  # cut the embedding and the head over the vocabulary too

    def plan(self, job: Mapping[str, Any], cluster: Mapping[str, Any], measured: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """`job`: "parameters" maps names, in the model's order, to shapes of (outputs, inputs); optional are "transposed", names of
        matrices of (inputs, outputs), "fused", for matrices that hold several one beside the other their numbers of outputs, and
        "heads", numbers of heads that must not be cut apart. `cluster`: "tensor", the number of processes.

        Gives "shard", the dimension of each parameter that is cut or None; "all_reduces", of each block and of the embedding, in a
        forward pass (as many in a backward pass); "gathers", the matrices whose outputs are cut with none after them that takes them
        so; and "numbers", of one process. Parts of a fused matrix are cut one by one.
        """
        processes = cluster.get("tensor", 1)
        if not isinstance(processes, int) or processes < 1:
            raise BadInput(f"cluster: tensor is the number of processes, at least 1, and not {processes!r}")
        matrices = [_Matrix(name, tuple(shape), job, processes) for name, shape in job["parameters"].items()]
        cuts, gathers, reduces = dict.fromkeys(job["parameters"]), [], {}
        modules: dict[str, list[_Matrix]] = {}
        added: set[str] = set()  # layers of experts that have their all-reduce
        for one in matrices:
            if one.kind in ("table", "head"):
                if self.vocabulary and one.divides("out"):
                    cuts[one.name] = one.dim("out") if one.kind == "head" else 0
                    gathers += [one.name] * (one.kind == "head")
                    reduces |= {one.module: 1} if one.kind == "table" else {}
            elif one.kind in ("attention", "dense"):
                modules.setdefault(one.home, []).append(one)
        for members in modules.values():
            for kind, pair in (("attention", _attention), ("dense", _feed_forward)):
                for group in pair([one for one in members if one.kind == kind]):
                    last = [one for one, side in group if side == "in"]
                    whole = bool(last) if kind == "dense" else _heads_divide(job, processes)
                    if not whole or not all(one.divides(side) for one, side in group):
                        continue
                    cuts |= {one.name: one.dim(side) for one, side in group}
                    gathers += [] if last else [one.name for one, _ in group]
                    for one in last:
                        reduces[one.block] = reduces.get(one.block, 0) + (not one.experts or one.experts not in added)
                        added.add(one.experts)
        if processes == 1:
            cuts, gathers, reduces = dict.fromkeys(cuts), [], {}
        numbers = sum(prod(one.shape) // (1 if cuts[one.name] is None else processes) for one in matrices)
        return {"shard": cuts, "all_reduces": reduces, "gathers": gathers, "numbers": numbers}


class _Matrix:
    """A parameter with what its name and shape tell."""

    def __init__(self, name: str, shape: tuple[int, ...], job: Mapping[str, Any], processes: int) -> None:
        self.name, self.shape, self.processes = name, shape, processes
        self.turned = name in job.get("transposed", ())
        self.outputs, self.inputs = (0, 0) if len(shape) != 2 else shape[::-1] if self.turned else shape
        self.parts = tuple(job.get("fused", {}).get(name, ()))
        self.module = name.rpartition(".")[0] or name
        parent, _, self.stem = self.module.rpartition(".")
        self.block = found[0] if (found := LAYER.match(name)) else parent
        self.kind = self._kind()
        words = self.module.split(".")
        at, expert = _place(words, ATTENTION), _place(words[:-1], EXPERT)
        self.home = self.block if at is None else ".".join(words[: at + 1])  # within which matrices belong together
        self.experts = ""  # what holds the experts, for a matrix of one
        if at is None and expert is not None:
            self.experts, self.home = ".".join(words[:expert]), ".".join(words[: expert + 1 + words[expert + 1].isdigit()])

    def _kind(self) -> str:
        words = self.module.lower().split(".")
        if len(self.shape) != 2 or "pos" in words[-1] or words[-1] == "wpe" or words[-1].endswith("bias"):
            return "other"
        if "embed" in words[-1] or words[-1] in ("wte", "shared"):
            return "table"
        if words[-1].endswith("head"):
            return "head"
        return "attention" if any(part in word for word in words for part in ATTENTION) else "dense"

    def dim(self, side: str) -> int:
        """The dimension of the outputs or of the inputs."""
        return int((side == "out") == self.turned)

    def divides(self, side: str) -> bool:
        parts = (self.parts or (self.outputs,)) if side == "out" else (self.inputs,)
        return not any(part % self.processes for part in parts)


Group = list[tuple[_Matrix, str]]  # matrices that are cut together, each on its outputs or its inputs


def _place(words: Sequence[str], parts: Sequence[str]) -> int | None:
    return next((i for i, word in enumerate(words) if any(part in word.lower() for part in parts)), None)


def _heads_divide(job: Mapping[str, Any], processes: int) -> bool:
    return not any(heads % processes for heads in job.get("heads", ()))


def _attention(members: Sequence[_Matrix]) -> list[Group]:
    """Queries, keys and values on outputs, what follows them on inputs: by letter, else the first on outputs and the rest on inputs."""
    group: Group = []
    for one in members:
        ends = {one.stem[:1].lower(), one.stem[-1:].lower()}
        first = bool(ends & set("qkv")) or ("o" not in ends and not group)
        group.append((one, "out" if first else "in"))
    return [group] if group else []


def _feed_forward(members: Sequence[_Matrix]) -> list[Group]:
    """A matrix whose inputs are the outputs of those before it (or half of them: gate and up in one) closes the pair they opened."""
    groups: list[Group] = []
    for one in members:
        before = groups[-1] if groups and groups[-1][-1][1] == "out" else None
        source = before[-1][0] if before else None
        if source is not None:
            beside = (one.inputs, one.outputs) == (source.inputs, source.outputs)
            named = one.stem.lower().startswith(FIRST[:3]) or FIRST[3] in one.stem.lower().split("_")
            if beside and (one.inputs != one.outputs or named):
                before.append((one, "out"))
                continue
            if source.outputs in (one.inputs, 2 * one.inputs):
                before.append((one, "in"))
                continue
        groups.append([(one, "out")])
    return groups
