"""The driver of the optim seam: rate, decay and flat buffers are here, the direction is the method's.

All parameters lie in one flat float32 buffer of masters; the network's own tensors are views of it or, in bfloat16, of a flat copy
in that type. Matrices come first, so weight decay covers a prefix of the buffer.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bloomery.seams import Optim, Rng
from bloomery.train.mesh import ALONE, Mesh

CHUNK = 1 << 18  # numbers updated at a time by an element-wise method: all its operands stay in the cache


@dataclass(frozen=True)
class Claim:
    """Where a parameter lies in the flat buffers, and which method moves it."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int
    decayed: bool
    whole: bool  # handed over as a whole matrix
    factor: float = 1.0  # by which the rate is multiplied


class Optimizer:
    """Moves the trainable parameters of `net` along the direction of `method`.

    A method of scope "matrix" gets whole matrices of the blocks; everything else (embedding, head, norms) is moved by `rest`.
    `rates` multiply the rate of the parameters that they name, not their decay. Raises ValueError when `rest` is missing.

    On a `mesh` whose ranks hold all parameters, gradients are summed over the ranks that see other tokens: one sum of the flat buffer.
    """

    def __init__(
        self, net: nn.Module, method: Optim, rng: Rng, decay: float = 0.0, dtype: torch.dtype = torch.float32, rest: Optim | None = None,
        rates: Mapping[str, float] | None = None, mesh: Mesh = ALONE,
    ) -> None:  # fmt: skip
        self.method, self.rest, self.rng, self.decay = method, rest if method.scope == "matrix" else method, rng, decay
        self.net, self.mesh = net, mesh
        named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
        self.claims = claim(named, method.scope == "matrix", rates)
        self.every = every(mesh, self.claims)
        if self.rest is None and not all(one.whole for one in self.claims):
            raise ValueError(f"{type(method).__name__} moves matrices only; name a second optimizer for the other parameters")
        by_name = dict(named)
        size = self.claims[-1].stop if self.claims else 0
        self.decayed = sum(one.stop - one.start for one in self.claims if one.decayed)
        self.loose = next((one.start for one in self.claims if not one.whole), size)  # from here on element-wise
        self.master = torch.cat([by_name[one.name].detach().float().reshape(-1) for one in self.claims])
        self.factors = None  # of single numbers, where they are not all 1
        if any(one.factor != 1.0 for one in self.claims):
            self.factors = torch.cat([torch.full((one.stop - one.start,), one.factor) for one in self.claims]).to(self.master.device)
        self.work = self.master if dtype == torch.float32 else self.master.to(dtype)
        self.grad = torch.zeros_like(self.master)
        self.parameters = {}
        for one in self.claims:
            p = self.parameters[one.name] = by_name[one.name]
            p.data = self._view(self.work, one)
            p.grad = None
        for p in net.parameters():
            if not p.requires_grad:
                p.data = p.data.to(dtype)
        self.states = self._fresh()
        self.zeros: Tensor | None = None  # numbers that stay 0
        self.extra: dict[str, Tensor] = {}  # what a method of the mesh keeps of all parameters, laid out as the masters are
        self.spend()

    def keep_zeros(self) -> int:
        """Matrices of the blocks keep the zeros that they now hold, of which the number is returned: gradients are 0 there, and what a
        method writes there is taken back."""
        self.zeros = torch.zeros_like(self.master, dtype=torch.bool)
        for one in self.claims:
            if len(one.shape) == 2 and "blocks." in one.name:
                torch.eq(self._view(self.master, one), 0, out=self._view(self.zeros, one))
        return int(self.zeros.sum())

    def _view(self, flat: Tensor, one: Claim) -> Tensor:
        return flat[one.start : one.stop].view(one.shape)

    def _fresh(self) -> dict[str, dict[str, Tensor]]:
        """State by owner: one entry for each whole matrix, and "" for the element-wise remainder."""
        states = {one.name: self.method.init(self._view(self.master, one)) for one in self.claims if one.whole}
        if self.rest is not None and self.loose < len(self.master):
            states[""] = self.rest.init(self.master[self.loose :])
        return states

    def stream(self) -> None:
        """Take gradients as they arrive, into float32: several micro-batches then add up without the rounding of bfloat16."""
        for one in self.claims:
            self.parameters[one.name].register_post_accumulate_grad_hook(functools.partial(self._take, one))

    def collect(self) -> list[Tensor]:
        """The step's gradients, float32, in the order of `claims`; what still lies in `.grad` is added, and no gradient is 0."""
        grads = [self._view(self.grad, one) for one in self.claims]
        for one, g in zip(self.claims, grads, strict=True):
            self._take(one, self.parameters[one.name])
            if one.name in self.spent:
                g.zero_()
        self.spent.clear()
        own = self.own_gradients()
        self.mesh.add(own, self.grad)
        self.mesh.join(own)
        if self.zeros is not None:
            self.grad.masked_fill_(self.zeros, 0)
        return grads

    def norm(self) -> float:
        """Of all gradients of the step together, on all ranks."""
        return self.mesh.norm(self.own_gradients())

    def spend(self) -> None:
        """The gradients have done their work: those that arrive next replace them."""
        self.spent = {one.name for one in self.claims}

    @torch.no_grad()
    def _take(self, one: Claim, p: nn.Parameter) -> None:
        if p.grad is None:
            return
        into = self._view(self.grad, one)
        if one.name in self.spent:
            into.copy_(p.grad)
            self.spent.remove(one.name)
        else:
            into.add_(p.grad)
        p.grad = None

    @torch.no_grad()
    def step(self, rate: float, t: int) -> None:
        """Decay, then move against the direction; `t` counts from 1. The gradients are spent."""
        rng = self.rng.child("step", t)
        for one in self.claims:
            if one.whole:
                p = self._view(self.master, one)
                g, decayed, factor = self._view(self.grad, one).to(p.device), p[: len(p) * one.decayed], self._factor(one.start, one.stop)
                self._move(self.method, g, p, decayed, self.states[one.name], rate, t, rng.child(one.name), factor)
                self._round(one.start, one.stop)
        for start, stop, state in self._chunks():
            self._advance(start, stop, state, rate, t, rng)
        if self.zeros is not None:
            self.master.masked_fill_(self.zeros, 0)
            self._round(0, len(self.master))
        self.spend()

    def _advance(self, start: int, stop: int, state: dict[str, Tensor], rate: float, t: int, rng: Rng) -> None:
        """A piece of the element-wise part."""
        p = self.master[start:stop]
        g, decayed = self.grad[start:stop].to(p.device), p[: max(0, self.decayed - start)]
        self._move(self.rest, g, p, decayed, state, rate, t, rng.child(start), self._factor(start, stop))
        self._round(start, stop)

    def _factor(self, start: int, stop: int) -> Tensor | None:
        return None if self.factors is None else self.factors[start:stop]

    def _move(
        self, method: Optim, g: Tensor, p: Tensor, decayed: Tensor, state: dict[str, Tensor], rate: float, t: int, rng: Rng,
        factor: Tensor | None,
    ) -> None:  # fmt: skip
        """One call of the method; `decayed` is the part of `p` that weight decay covers."""
        if factor is None and hasattr(method, "update") and len(decayed) in (0, len(p)):
            method.update(g, p, state, t, rate, self.decay if len(decayed) else 0.0)
            return
        direction = method.direction(g, p, state, t, rng)
        if self.decay:
            decayed.mul_(1 - rate * self.decay)
        if factor is None:
            p.sub_(direction, alpha=rate)
        else:
            p.addcmul_(direction, factor.view(p.shape), value=-rate)

    def _round(self, start: int, stop: int) -> None:
        """The working weights of masters that have just moved, while these are in the cache."""
        if self.work is not self.master:
            self.work[start:stop].copy_(self.master[start:stop])

    def spread(self) -> None:
        """Masters that somebody else has moved become the working weights."""
        self._round(0, len(self.master))

    def _chunks(self) -> Iterator[tuple[int, int, dict[str, Tensor]]]:
        """Pieces of the element-wise part with their state: small where the state is one number per parameter.

        Any other state belongs to all parameters together: they are then one piece, so that it changes once a step.
        """
        if "" not in self.states:
            return
        state, end = self.states[""], len(self.master)
        if not all(s.shape == (end - self.loose,) for s in state.values()):
            yield self.loose, end, state
            return
        for begin, stop in ((self.loose, max(self.loose, self.decayed)), (max(self.loose, self.decayed), end)):
            for start in range(begin, stop, CHUNK):
                to = min(start + CHUNK, stop)
                part = {key: s[start - self.loose : to - self.loose] for key, s in state.items()}
                held = dict(part)
                yield start, to, part
                for key, s in part.items():  # a method may replace its state instead of writing into it
                    if s is not held[key]:
                        held[key].copy_(s)

    def masters(self) -> dict[str, Tensor]:
        """What this rank holds of the float32 masters, by parameter name: here all of them."""
        return {one.name: self._view(self.master, one) for one in self.claims}

    def frozen(self) -> dict[str, Tensor]:
        """What this rank holds of the parameters that are not trained."""
        return {name: p.detach() for name, p in self.net.named_parameters() if not p.requires_grad}

    def weights(self) -> dict[str, Tensor]:
        """The whole float32 masters by parameter name; where ranks have different ones, all ask for them."""
        return self.mesh.gathered(self.masters())

    def own_gradients(self) -> dict[str, Tensor]:
        """Those of this rank's parameters."""
        return {one.name: self._view(self.grad, one) for one in self.claims}

    def gradients(self) -> dict[str, Tensor]:
        """The whole gradients of the step by parameter name, likewise."""
        return self.mesh.gathered(self.own_gradients())

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint must hold: a parameter, and of its state what belongs to it alone, by its name, so that ranks that hold
        parts of it can read them. What belongs to several parameters together is under no name."""
        found = {f"weight|{name}": t for name, t in self.masters().items()}
        found |= {f"{key}|{one.name}": self._view(flat, one) for key, flat in self.extra.items() for one in self.claims}
        for owner, state in self.states.items():
            for key, s in state.items():
                if owner or s.shape != (len(self.master) - self.loose,):
                    found[f"state|{owner}|{key}"] = s
                    continue
                for one in self.claims:
                    if not one.whole:
                        found[f"state|{one.name}|{key}"] = s[one.start - self.loose : one.stop - self.loose].view(one.shape)
        return found

    def state_bytes(self) -> int:
        """Bytes of what the methods keep between steps; masters and gradients are not theirs."""
        return sum(s.numel() * s.element_size() for state in self.states.values() for s in state.values())

    def layout(self) -> list[list]:
        """Names, shapes and order of the model's parameters: what a checkpoint must agree with."""
        return [[one.name, list(one.shape)] for one in self.every]

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave; raises KeyError or RuntimeError when it belongs to another optimizer or model."""
        for name, t in self.tensors().items():
            t.copy_(tensors[name])
        self.spread()
        self.spend()


def every(mesh: Mesh, claims: list[Claim]) -> list[Claim]:
    """The claims of the whole model, where ranks have different parameters of it: all know the names and shapes."""
    if not mesh.homes:
        return claims
    whole = any(one.whole for one in claims)
    return claim([(name, torch.empty(shape, device="meta")) for name, shape in mesh.shapes.items()], whole)


def claim(named: list[tuple[str, nn.Parameter]], whole: bool, rates: Mapping[str, float] | None = None) -> list[Claim]:
    """Each parameter exactly once: whole matrices first, then decayed ones, then norms and other vectors."""
    rates = rates or {}
    matrices = [(name, p) for name, p in named if p.dim() >= 2 and whole and name.startswith("blocks.")]
    taken = {name for name, _ in matrices}
    tables = [(name, p) for name, p in named if p.dim() >= 2 and name not in taken]
    vectors = [(name, p) for name, p in named if p.dim() < 2]
    claims, at = [], 0
    for name, p in (*matrices, *tables, *vectors):
        claims.append(Claim(name, tuple(p.shape), at, at + p.numel(), p.dim() >= 2, name in taken, rates.get(name, 1.0)))
        at += p.numel()
    if sorted(one.name for one in claims) != sorted(name for name, _ in named):
        raise ValueError("a parameter is claimed twice or not at all")
    return claims
