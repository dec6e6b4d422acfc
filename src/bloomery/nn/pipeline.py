"""A model whose blocks lie on several ranks, stage after stage; torch.distributed.pipelining sends what goes from one to the next.

Shapes: B rows, T tokens, D width. A stage is a run of blocks; a rank may have several, which are then not next to each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bloomery.nn.empty import Elsewhere
from bloomery.nn.model import restart
from bloomery.seams import Batch

FIRST, LAST = ("embed", "positions", "types", "embed_norm"), ("norm", "transform", "head")
TIED = "embed.weight"


def runs(layers: int, stages: int) -> list[range]:
    """The blocks of each stage, as even as can be; the first ones get what is left over."""
    each, over = divmod(layers, stages)
    starts = [number * each + min(number, over) for number in range(stages + 1)]
    return [range(a, b) for a, b in pairwise(starts)]


def unstaged(cfg: Any, stages: int, sizes: Mapping[str, int]) -> str:
    """Why a model cannot be cut into so many stages, "" where it can."""
    if stages > cfg.layers:
        return f"pipeline {sizes['pipeline']} makes {stages} stages of {cfg.layers} layers"
    odd = {"an encoder": cfg.encoder_layers, "relative positions": cfg.positions == "relative"}
    odd |= {"attention in both directions": not cfg.causal}
    return next((f"pipeline cuts a model between its blocks, and this one has {name}" for name, there in odd.items() if there), "")


class Pipe:
    """The stages of `net` that lie here: `owners` says for every stage which place along the axis has it.

    What lies elsewhere is taken out of `net` (a tied head and its embedding stay where either is used), which then reads whole batches
    together with the other ranks: all call it, and the one where the pipe `ends` gets the hidden states. `schedule(stages, n, loss)` makes
    torch's schedule of n micro-batches. With `again` a stage keeps what enters it alone, and is computed twice.
    """

    def __init__(self, net: nn.Module, mesh: Any, owners: Sequence[int], schedule: Callable[..., Any], again: bool = False) -> None:
        self.net, self.owners, self.schedule, self.again = net, list(owners), schedule, again
        self.group, self.place, self.dtype = mesh.device_mesh.get_group("pipeline"), mesh.place["pipeline"], mesh.precision
        self.layers = runs(len(net.blocks), len(owners))
        self.own = [stage for stage, place in enumerate(owners) if place == self.place]
        self.made: tuple[Any, Any] | None = None  # the newest schedule, and of what micro-batches
        self.micros: Sequence[Batch] = ()
        self.value: Callable[..., Any] = lambda net, micro: torch.zeros(())
        mesh.homes |= {name: {**mesh.homes.get(name, {}), "pipeline": self.home(name)} for name in mesh.shapes}
        ends = (owners[0], owners[-1])
        self.tied = TIED if net.cfg.tied and len(set(ends)) == 2 and self.place in ends else ""  # a parameter that another rank has too
        self.other = ends[self.place == ends[0]]
        self.take_out()
        net.forward = self.forward

    @property
    def ends(self) -> bool:
        """Whether the last stage lies here."""
        return self.owners[-1] == self.place

    def stage(self, name: str) -> int:
        """The stage of a parameter or part of the model."""
        first, _, rest = name.partition(".")
        if first == "blocks":
            return next(stage for stage, run in enumerate(self.layers) if int(rest.partition(".")[0]) in run)
        return 0 if first in FIRST else len(self.owners) - 1

    def home(self, name: str) -> int:
        """The place that has it."""
        return self.owners[self.stage(name)]

    def take_out(self) -> None:
        """Leave what lies here."""
        for name in (*FIRST, *LAST):
            if getattr(self.net, name) is not None and self.home(name) != self.place and not (name == "embed" and self.tied):
                setattr(self.net, name, Elsewhere())
        for layer in range(len(self.net.blocks)):
            if self.home(f"blocks.{layer}") != self.place:
                self.net.blocks[layer] = Elsewhere()

    def forward(
        self, tokens_BT: Tensor, positions_BT: Tensor | None = None, documents_BT: Tensor | None = None,
        stage: int | None = None, x_BTD: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """One stage of what `x` has become so far; without `stage` the whole pass, whose hidden states only the last rank has."""
        if positions_BT is None:
            positions_BT = restart(tokens_BT.shape[1], documents_BT, tokens_BT.device)
        one = partial(self.through, tokens_BT, positions_BT, documents_BT)
        if stage is not None:
            return one(stage, x_BTD)
        for number in self.own:
            x_BTD = self.taken(number, x_BTD, tokens_BT)
            x_BTD = one(number, x_BTD)
            if number + 1 < len(self.owners) and self.owners[number + 1] != self.place:
                dist.send(x_BTD.detach().contiguous(), group=self.group, group_dst=self.owners[number + 1])
        return x_BTD

    def taken(self, stage: int, x_BTD: Tensor | None, tokens_BT: Tensor) -> Tensor | None:
        """What enters a stage, outside a step."""
        if stage == 0 or self.owners[stage - 1] == self.place:
            return x_BTD
        got = torch.empty(*tokens_BT.shape, self.net.cfg.width, dtype=self.dtype, device=tokens_BT.device)
        dist.recv(got, group=self.group, group_src=self.owners[stage - 1])
        return got

    def through(self, tokens_BT: Tensor, positions_BT: Tensor, documents_BT: Tensor | None, stage: int, x_BTD: Tensor | None) -> Tensor:
        """The blocks of a stage, and what is before the first and after the last."""
        net = self.net
        x_BTD = net.enter(tokens_BT, positions_BT) if stage == 0 else x_BTD
        whole = net.prepare(positions_BT, documents_BT)
        local = net.local(whole, positions_BT)
        for layer in self.layers[stage]:
            x_BTD = net.blocks[layer](x_BTD, local if net.cfg.window(layer) else whole)
        return net.leave(x_BTD) if stage == len(self.owners) - 1 else x_BTD

    def swapped(self, x: Tensor) -> Tensor:
        """What the other rank that has the tied parameter gives for `x`."""
        got = torch.empty_like(x, memory_format=torch.contiguous_format)
        moves = [dist.P2POp(dist.isend, x.contiguous(), group=self.group, group_peer=self.other)]
        moves += [dist.P2POp(dist.irecv, got, group=self.group, group_peer=self.other)]
        for work in dist.batch_isend_irecv(moves):
            work.wait()
        return got

    # ---- a step

    def run(self, micros: Sequence[Batch], value: Callable[..., Any]) -> float:
        """Forward and backward of all micro-batches; their loss where the pipe ends, 0 elsewhere."""
        self.micros, self.value = micros, value
        about, losses = (len(micros), micros[0].inputs.shape), []
        if self.made is None or self.made[1] != about:
            self.made = self.schedule([self.torch_stage(number) for number in self.own], len(micros), self.loss), about
        numbers = torch.arange(len(micros))
        self.made[0].step(numbers, number=numbers, target=numbers, losses=losses, return_outputs=False)
        return sum(float(one.detach()) for one in losses)

    def torch_stage(self, stage: int) -> Any:
        """As torch's schedules know it; shapes are told, so that nothing is sent to find them."""
        from torch.distributed.pipelining import PipelineStage

        shape = (*self.micros[0].inputs.shape, self.net.cfg.width)
        between = torch.empty(shape, dtype=self.dtype, device="meta", requires_grad=True)
        entering = between if stage else torch.empty(1, dtype=torch.int64, device="meta")
        device = self.micros[0].inputs.device
        return PipelineStage(Piece(self, stage), stage, len(self.owners), device, entering, between, group=self.group)

    def loss(self, hidden_BTD: Tensor, number: Tensor) -> Tensor:
        """A micro-batch's share of the step's loss."""
        return self.value(Ended(self.net, hidden_BTD), self.micros[int(number)])


class Piece(nn.Module):
    """One stage, with the parameters that are its own."""

    def __init__(self, pipe: Pipe, stage: int) -> None:
        super().__init__()
        names = [name for name in (*FIRST, *LAST) if getattr(pipe.net, name) is not None and pipe.stage(name) == stage]
        self.parts = nn.ModuleList([*(getattr(pipe.net, name) for name in names), *(pipe.net.blocks[i] for i in pipe.layers[stage])])
        self.pipe, self.stage = (pipe,), stage  # in a tuple: the whole model is no part of this one

    def forward(self, x: Tensor, number: Tensor) -> Tensor:
        """`x` (B, T, D), or anything for the first stage; `number` (1) of the micro-batch."""
        (pipe,), at = self.pipe, int(number)
        micro, begin = pipe.micros[at], pipe.value.begin
        begin(at)
        one = partial(pipe.net, micro.inputs, micro.positions, micro.documents, stage=self.stage)
        entering = x if self.stage else None
        if pipe.again:
            made = checkpoint(lambda x_BTD: one(x_BTD=x_BTD), entering, use_reentrant=False)
        else:
            made = one(x_BTD=entering)
        made.register_hook(lambda _: begin(at))  # the backward pass of this micro-batch begins
        return made


class Ended:
    """The model at its end: called like it, it gives the hidden states that are there already."""

    def __init__(self, net: nn.Module, hidden_BTD: Tensor) -> None:
        self._net, self._hidden_BTD = net, hidden_BTD

    def __call__(self, *args: Any, **named: Any) -> Tensor:
        return self._hidden_BTD

    def __getattr__(self, name: str) -> Any:
        return getattr(self._net, name)


class Asked:
    """A model in stages, to be asked for log-probabilities by all its ranks together: what they get means something where the pipe ends."""

    def __init__(self, pipe: Pipe) -> None:
        self.net, self.cfg, self.pipe = pipe.net, pipe.net.cfg, pipe
        self.embed = nn.Embedding(1, 1, device=next(pipe.net.parameters()).device)  # a reader asks it for the device

    def __call__(self, *args: Any, **named: Any) -> Tensor:
        return self.net(*args, **named)

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """(N, V); zeros, which take no memory, elsewhere."""
        return self.net.logits(hidden_ND) if self.pipe.ends else hidden_ND.new_zeros(1, 1).float().expand(len(hidden_ND), self.cfg.vocab)
