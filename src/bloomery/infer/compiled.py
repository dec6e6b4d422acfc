"""A whole step of the running batch as one compiled graph: embedding, every layer over its pages, and the logits.

An eager step of a model that fits into a cache is mostly the handing out of small operations, and its attention copies all pages together
before it multiplies. Compiled, a step reads each page where it lies. Its shapes are fixed but for the number of pages, so one graph serves
all lengths; there is one for each number of rows and of new tokens.

Shapes: B rows, T new tokens of each row, H query heads, K key heads, G query heads per key head, E head width, P tokens of a page, N pages
of the longest row, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.core.machine import compiler
from bloomery.infer.cache import FAR, Memory
from bloomery.infer.dense import Half, Plain, blocked, by_blocks
from bloomery.infer.hiding import Hide
from bloomery.infer.int8 import Int8
from bloomery.infer.large_pages import held, in_large_pages
from bloomery.infer.pages import PAGE, SCRATCH
from bloomery.infer.slots import Slots
from bloomery.infer.straight import Straight
from bloomery.infer.windowed import WindowedFeedForward
from bloomery.nn.mixture import Mixture
from bloomery.nn.model import Transformer

PAYS_FROM = 2e7  # matmul parameters: below this an eager step is short, and compiling takes longer than most servers would gain from it
BACKEND = "inductor"
CHANGING = ("table_BN", "first_B", "tokens_BT")  # arguments of a graph that are looked at before each step


def worthwhile(wish: bool | None, net: Transformer) -> tuple[bool, str]:
    """Whether steps are compiled, and why: as wished; without a wish, where there is a compiler and the model is large enough.

    BadInput where it is wished and there is no compiler, or a part of the model lies on disk.
    """
    if wish:
        demand_compiler()
        if on_disk(net):
            raise BadInput("compiled: a part of the model lies on disk, which eager steps alone read; leave `compiled` out")
    if wish is not None:
        return wish, "as asked" if wish else "compiling was not asked for"
    if net.embed.weight.device.type != "cpu":
        return False, "not on a processor"
    if compiler() is None:
        return False, "there is no C++ compiler"
    if on_disk(net):
        return False, "a part of the model lies on disk"
    large = net.cfg.matmul_parameters() >= PAYS_FROM
    return large, f"{net.cfg.matmul_parameters() / 1e6:,.1f}M matmul parameters, it pays from {PAYS_FROM / 1e6:.0f}M"


def on_disk(net: Transformer) -> bool:
    """Whether experts or neurons are read as they are needed: infer/fetching.py, infer/windowed.py."""
    fetched = (unit.across is not None for unit in net.modules() if isinstance(unit, Mixture))
    return any(fetched) or any(isinstance(unit, WindowedFeedForward) for unit in net.modules())


def demand_compiler() -> None:
    """BadInput where there is no compiler."""
    if compiler() is None:
        raise BadInput("compiled: there is no C++ compiler on PATH; install one, or leave steps eager")


class Compiled:
    """Steps of one network over the pages of `slots`. `seconds` is what compiling took."""

    def __init__(self, net: Transformer, slots: Slots, memory: Memory) -> None:
        self.slots, self.seconds = slots, 0.0
        for unit in net.modules():
            if isinstance(unit, Half | Int8):
                unit.plain()
        in_large_pages(net)
        blocks = in_blocks(net)
        self.frozen = blocks or net.embed.weight.dtype == torch.bfloat16
        many = _swapped(net, Blocked if blocks else None)
        for unit in many.modules():
            if isinstance(unit, Int8):
                unit.constant = self.frozen
        self._one, self._many = _compiled(_swapped(net, Plain)), _compiled(many)
        self._steady = memory.keys, memory.values, memory.turns, memory.last

    def prepare(self, rows: Sequence[int], widths: Sequence[int] = (1,)) -> float:
        """Compiles steps of so many rows and new tokens now; their seconds. Idle rows alone are stepped, so nothing is changed."""
        began = time.perf_counter()
        for count in rows:
            for width in widths:
                tokens, first = torch.zeros(count, width, dtype=torch.int64), torch.zeros(count, dtype=torch.int64)
                with _plain(), _constants(self.frozen and tokens.numel() > 1):
                    for pages in (2, 4):
                        table = torch.full((count, pages), SCRATCH)
                        torch._dynamo.mark_dynamic(table, 1)
                        self._graph(tokens).learn(tokens.shape, pages, *self._steady, table, first, tokens)
        self._one.settle()
        self._many.settle()
        self.seconds += time.perf_counter() - began
        return self.seconds

    def __call__(self, tokens: list[list[int]], pages: int, offset: int = 0) -> Tensor:
        """Logits (B, T, V) of a step that `Slots.begin` has made room for, `offset` tokens after the newest that count."""
        rows = len(tokens)
        with _plain():
            table_BN = torch.empty(rows, pages, dtype=torch.int64).copy_(self.slots.table[:rows, :pages])  # whose strides are always alike
            return self._call(torch.tensor(tokens), table_BN, self.slots.next[:rows] + offset)

    def _call(self, tokens_BT: Tensor, table_BN: Tensor, first_B: Tensor) -> Tensor:
        return self._graph(tokens_BT)(tokens_BT.shape, table_BN.shape[1], *self._steady, table_BN, first_B, tokens_BT)

    def _graph(self, tokens_BT: Tensor) -> Straight:
        return self._one if tokens_BT.numel() == 1 else self._many


class Blocked(Plain):
    """A linear in fp32 that shares the weight of another, for graphs of many rows, where it is a constant in oneDNN's blocks: they are read
    at two to three times the speed of MKL's product, which the compiler would take."""

    def forward(self, x: Tensor) -> Tensor:
        return by_blocks(x, blocked(self.weight), self.bias)


if torch.backends.mkldnn.is_available():

    @torch.library.register_fake("mkldnn::_reorder_linear_weight", allow_override=True)
    def _as_large(weight_OI: Tensor, rows: int | None = None) -> Tensor:
        """What a compiler needs to know of a blocked weight, and torch does not say."""
        return torch.empty_like(weight_OI)

    @torch.library.register_fake("onednn::qlinear_prepack", allow_override=True)
    def _as_large_turned(codes_OI: Tensor, shape: list[int] | None = None) -> Tensor:
        """The same of blocks of codes."""
        return codes_OI.new_empty(codes_OI.shape[1], codes_OI.shape[0])


def in_blocks(net: Transformer) -> bool:
    """Whether graphs of many rows take blocks of this network's weights: in fp32. Not where there are experts, which are multiplied all at
    once, by MKL, which constants make slower."""
    able = torch.backends.mkldnn.is_available() and net.embed.weight.dtype == torch.float32
    return able and not any(isinstance(unit, Mixture) for unit in net.modules())


def _swapped(net: Transformer, of: type[nn.Module] | None) -> Transformer:
    """The network once more, with other modules in the places of its plain linears, that read their weights otherwise (None: with its own).
    All tensors are shared. Experts stay as they are, since a mixture multiplies by all of theirs at once."""
    other = deepcopy(net, {id(one): one for one in held(net)})
    experts = {part for unit in other.modules() if isinstance(unit, Mixture) for part in unit.experts.modules()}
    for unit in [one for one in other.modules() if one not in experts]:
        for name, inner in list(unit.named_children()):
            if of is not None and type(inner) is nn.Linear:
                setattr(unit, name, of(inner))
    return other


def _compiled(net: Transformer) -> Straight:
    options = {"cpp_wrapper": True} if BACKEND == "inductor" else {}
    return Straight(Whole(net), BACKEND, 4, options, _watched)


def _watched(guards: Sequence[Any]) -> list[bool]:
    """Which of the compiler's questions are asked before each step. The network and its pages stay what they were, and no other network's
    graphs are looked through, so nothing is asked of every single weight, which takes longer than a layer."""
    return [not guard.name or guard.name in CHANGING for guard in guards]


def _constants(frozen: bool) -> Any:
    """Whether a graph that is compiled meanwhile has its weights as constants; as an option of one compilation this comes too late for what
    goes before the compiler, which would take them as arguments still."""
    return torch._inductor.config.patch(freezing=frozen)


@contextmanager
def _plain() -> Iterator[None]:
    """No gradients, and tensors that a graph may change in place."""
    with torch.inference_mode(False), torch.no_grad():
        yield


class Whole(nn.Module):
    """From tokens to logits. Of a lone token's graph the weights are inputs; in that of many they are constants where they are in bfloat16
    or fp32, which lie in blocks there: a second copy."""

    def __init__(self, net: Transformer) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, keys: list[Tensor], values: list[Tensor], turns: Tensor | None, last: int, table_BN: Tensor, first_B: Tensor,
        tokens_BT: Tensor,
    ) -> Tensor:  # fmt: skip
        return self.net.logits(self.net.steps(tokens_BT, Traced(keys, values, turns, last, table_BN, first_B, tokens_BT.shape[1])))


class Traced:
    """The cache of a step as a compiler sees it: what `cache.Step` is to an eager one."""

    def __init__(
        self, keys: list[Tensor], values: list[Tensor], turns: Tensor | None, last: int, table_BN: Tensor, first_B: Tensor, length: int
    ) -> None:  # fmt: skip
        self.keys, self.values, self.table = keys, values, table_BN
        places = first_B[:, None] + torch.arange(length)
        self.page, self.slot = table_BN.gather(1, places // PAGE), places % PAGE
        order = torch.arange(PAGE) + PAGE * torch.arange(table_BN.shape[1])[:, None]
        self.away_BTNP, self.places, self.order = places[:, :, None, None] - order, places, order
        self.positions = places.clamp(max=last)
        self.cos, self.sin = (None, None) if turns is None else turns[self.positions].unbind(2)

    def attend(
        self, layer: int, q_BTHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, window: int = 0, cap: float = 0.0, scale: float | None = None,
        weigh: Callable[[Tensor], Tensor] | None = None, hide: Hide | None = None,
    ) -> Tensor:  # fmt: skip
        """Keeps the new keys and values of a layer; the attention of its rows over their pages, (B, T, H x E)."""
        B, T, H, E = q_BTHE.shape
        K = k_BTKE.shape[2]
        self.keys[layer][self.page, :, self.slot] = k_BTKE
        self.values[layer][self.page, :, self.slot] = v_BTKE
        q = (q_BTHE.float() * (E**-0.5 if scale is None else scale)).view(B, T, K, H // K, E)
        q = q.as_strided(q.shape, q.stride())  # the compiler keeps what this is taken of; else it turns queries anew for every key
        k_BNKPE, v_BNKPE = self.keys[layer][self.table], self.values[layer][self.table]
        scores = (q[:, :, None, :, :, None] * k_BNKPE[:, None, :, :, None].float()).sum(-1)  # (B, T, N, K, G, P)
        scores = scores.permute(0, 1, 3, 4, 2, 5)
        if cap:
            scores = cap * torch.tanh(scores / cap)
        seen = (self.away_BTNP >= 0) & (self.away_BTNP < (window or FAR))
        seen = seen[:, :, None, None]
        if hide is not None:
            own = hide(self.places, self.order.flatten()[None]).view(B, K, H // K, T, -1, PAGE)
            seen = seen & own.permute(0, 3, 1, 2, 4, 5)
        scores = torch.where(seen, scores, float("-inf")).flatten(-2)
        weight = (scores - scores.amax(-1, keepdim=True)).exp()
        total = weight.sum(-1, keepdim=True)
        if weigh is not None:
            weight, total = weigh(weight / total), 1.0
        weight = weight.unflatten(-1, (-1, PAGE)).permute(0, 1, 4, 2, 3, 5)  # (B, T, N, K, G, P)
        by_page = (weight[..., None] * v_BNKPE[:, None, :, :, None].float()).sum(-2)  # (B, T, N, K, G, E)
        by_page = by_page.as_strided(by_page.shape, by_page.stride())  # kept, so that pages are read in the order in which they lie
        return (by_page.sum(2) / total).to(q_BTHE.dtype).reshape(B, T, H * E)


def fitting(rows: int, graphs: Sequence[int]) -> int:
    """The smallest number of rows that is compiled and holds so many."""
    return next(count for count in sorted(graphs) if count >= rows)
