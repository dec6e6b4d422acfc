from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.nn.model import Transformer
from bloomery.num.growth import Units, repeated, wider
from bloomery.seams import Rng, Source, Tools

SAME = (
    "vocab", "head_width", "rope_base", "norm", "norm_eps", "positions", "gated", "activation", "qkv_bias", "out_bias", "mlp_bias",
    "rope_scaling", "rotary_share", "windows", "norm_order", "norm_offset", "parallel", "query_scalar", "score_cap", "logit_cap",
    "embed_scale", "residual_scale", "head_divisor",
)  # fmt: skip


@dataclass(frozen=True)
class Bert2BERT:
    """A larger model begins with the function of a trained smaller one: units and heads are repeated, layers stacked.

    P086 Chen et al. 2022, bert2BERT, arXiv 2110.07143
    Differs: every unit of the residual stream is there equally often, so that root-mean-square norms stay exact, and the last norm's gain
    is divided where the head is the embedding; other widths are refused unless `unequal`. The copies of a unit are read with unequal
    weights that sum to the paper's: without dropout, equal ones would stay copies for ever. Heads keep their width, which rotary
    positions hang on. The paper's second half, training parts of the layers first, is not done.
    Costs: nothing in training.
    """

    knowledge: Literal["advanced", "own"] = "advanced"  # new heads and hidden units: of the layer above (AKI), or of the layer itself (FPI)
    uneven: float = 0.5  # how much the weights that read the copies of a unit differ, in a share of their mean; 0 = the paper's
    unequal: bool = False  # widths that are no multiple of the source's are allowed; norms then see some units more often

    def __post_init__(self) -> None:
        if not 0 <= self.uneven <= 1:
            raise ValueError(f"uneven must be between 0 and 1, got {self.uneven}")

    @torch.no_grad()
    def apply(self, into: Source, sources: Sequence[Source], tools: Tools | None, rng: Rng) -> None:
        """Fill every parameter of `into.net` from the one source; BadInput where the shapes or the words do not fit."""
        if len(sources) != 1:
            raise BadInput(f"init: bert2bert grows one model, named in `start`, and got {len(sources)}")
        small, net = sources[0].net, into.net
        fit(small, net, self.unequal)
        if sources[0].tokenizer is not None and into.tokenizer is not None and words(sources[0]) != words(into):
            raise BadInput("init: the model of `start` has another tokenizer than `data`; bert2bert keeps the vocabulary")
        old, new = small.cfg, net.cfg
        state = {name: t.float() for name, t in small.state_dict().items()}
        width = repeated(new.width, old.width, rng.child("width"))
        last = width.shares(1, self.uneven, rng.child("last"))[0] if new.tied else 1.0  # the head that is the embedding reads copies alike
        grown = {name: t[: net.cfg.context, width.index] for name, t in state.items() if name == "positions.weight"}
        grown["embed.weight"] = state["embed.weight"][:, width.index]
        grown["head.weight"] = wider(state["head.weight"], None, width, rng.child("head"), self.uneven)
        grown |= {name: t[width.index] * last for name, t in state.items() if name in ("norm.weight", "norm.bias")}
        layers = [{name: t for name, t in state.items() if name.startswith(f"blocks.{i}.")} for i in range(old.layers)]
        layers = [{name.split(".", 2)[2]: t for name, t in layer.items()} for layer in layers]
        for number, layer in enumerate(layers):
            inner = _Inner(new, old, self.uneven, rng.child("layer", number))
            above = layers[min(number + 1, old.layers - 1)] if self.knowledge == "advanced" else layer
            layers[number] = {name: inner.grow(name, t, above[name], width) for name, t in layer.items()}
        for i in range(new.layers):
            grown |= {f"blocks.{i}.{name}": t for name, t in layers[stacked(i, new.layers, old.layers)].items()}
        for name, p in net.named_parameters():
            p.copy_(grown[name])


class _Inner:
    """The heads and hidden units of one layer."""

    def __init__(self, new: Any, old: Any, uneven: float, rng: Rng) -> None:
        keys = repeated(new.kv_heads, old.kv_heads, rng.child("keys"))
        group = repeated(new.heads // new.kv_heads, old.heads // old.kv_heads, rng.child("queries"))
        query = keys.index[:, None] * (old.heads // old.kv_heads) + group.index
        queries = Units(query.flatten(), (keys.fresh[:, None] | group.fresh).flatten())
        self.queries, keys = queries.spread(new.head_width), keys.spread(new.head_width)
        self.qkv = joined(self.queries, old.query_width, keys, old.key_width, keys, old.key_width)
        self.hidden = repeated(new.ffn, old.ffn, rng.child("hidden"))
        self.pair = joined(self.hidden, old.ffn, self.hidden, old.ffn)
        self.uneven, self.rng = uneven, rng

    def grow(self, name: str, own: Tensor, upper: Tensor, width: Units) -> Tensor:
        """One parameter of a layer; new heads and hidden units are those of `upper`."""
        kind, what = name.rpartition(".")[::2]
        if kind in ("mixer.q_norm", "mixer.k_norm"):
            return own
        rng, rows = self.rng.child(name), {"mixer.qkv": self.qkv, "mlp.gate_up": self.pair, "mlp.up": self.hidden}.get(kind)
        columns = {"mixer.out": self.queries, "mlp.down": self.hidden}.get(kind)
        out, into = rows or width, columns or width
        fresh = None if what == "bias" and columns else rows.fresh if rows else columns.fresh if columns else None
        mine, theirs = (wider(t, out, into, rng, self.uneven) for t in (own, upper))
        return mine if fresh is None else torch.where(fresh[:, None] if rows and what == "weight" else fresh, theirs, mine)


def joined(*parts: Units | int) -> Units:
    """Units that lie one group after the other: each with the number of old ones in its group."""
    index, fresh, at = [], [], 0
    for one, old in zip(parts[::2], parts[1::2], strict=True):
        index.append(one.index + at)
        fresh.append(one.fresh)
        at += old
    return Units(torch.cat(index), torch.cat(fresh))


def stacked(layer: int, new: int, old: int) -> int:
    """Which old layer a new one is: all of them again and again, and on top the highest ones."""
    whole = new // old * old
    return layer % old if layer < whole else old - (new - whole) + layer - whole


def words(source: Source) -> str:
    """What tells a tokenizer from another."""
    return source.tokenizer.inner.to_str() if hasattr(source.tokenizer, "inner") else repr(source.tokenizer)


def fit(small: Transformer, net: Transformer, unequal: bool) -> None:
    """BadInput naming the first thing in which a model cannot grow from another."""
    old, new = small.cfg, net.cfg
    if small.fitted:
        raise BadInput("init: the model of `start` has modules of its own; bert2bert grows plain ones")
    if odd := next((name for name in (*SAME, "qk_norm", "causal") if getattr(old, name) != getattr(new, name)), None):
        raise BadInput(f"init: {odd} is {getattr(old, odd)!r} in the model of `start` and {getattr(new, odd)!r} here; they must agree")
    if odd := next((name for name in ("norm_offset", "qk_norm_whole") if getattr(old, name)), None):
        raise BadInput(f"init: the model of `start` has {odd}, which bert2bert does not grow; start from another")
    if new.tied and not old.tied:
        raise BadInput("init: the model of `start` has a head of its own; let this one have one too")
    less = next((name for name in ("width", "layers", "heads", "kv_heads", "ffn") if getattr(new, name) < getattr(old, name)), None)
    if less or new.heads // new.kv_heads < old.heads // old.kv_heads:
        less = less or "heads / kv_heads"
        raise BadInput(f"init: {less} is smaller than in the model of `start`; bert2bert only grows")
    if new.positions == "learned" and new.context > old.context:
        raise BadInput(f"init: the model of `start` has learned {old.context} positions and {new.context} are asked for")
    if new.width % old.width and not unequal:
        raise BadInput(f"init: width {new.width} is no multiple of the {old.width} of `start`; choose one, or say `unequal: true`")
