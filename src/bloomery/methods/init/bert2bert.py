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

SAME = ("vocab", "head_width", "rope_base", "norm", "norm_eps", "positions", "gated", "activation", "qkv_bias", "out_bias", "mlp_bias")


@dataclass(frozen=True)
class Bert2BERT:
    """A larger model begins with the function of a trained smaller one: units and heads are repeated, layers stacked.

    P086 Chen et al. 2022, bert2BERT, arXiv 2110.07143
    Differs: every unit of the residual stream is there equally often, so that root-mean-square norms stay exact, and the last norm's gain
    is divided by that number where the head is the embedding; without `unequal` other widths are refused. Heads keep their width,
    which rotary positions hang on. The second half of the paper, training parts of the layers first, is not done.
    Costs: nothing in training.
    """

    knowledge: Literal["advanced", "own"] = "advanced"  # new heads and hidden units: of the layer above (AKI), or of the layer itself (FPI)
    unequal: bool = False  # widths that are no multiple of the source's are allowed; norms then see some units more often

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
        width = repeated(new.width, old.width, rng.child("width"))
        state = {name: t.float() for name, t in small.state_dict().items()}
        grown = {"embed.weight": wider(state["embed.weight"], None, width, read=False)}
        if "positions.weight" in state:
            grown["positions.weight"] = wider(state["positions.weight"][: new.context], None, width, read=False)
        for name in ("norm.weight", "norm.bias") if "norm.bias" in state else ("norm.weight",):
            grown[name] = wider(state[name], width, None) * (width.share if new.tied else 1.0)
        if not new.tied:
            grown["head.weight"] = wider(state["head.weight"], None, width)
        inner = [_Inner(new, old, rng.child("layer", layer)) for layer in range(old.layers)]
        for layer in range(new.layers):
            below = stacked(layer, new.layers, old.layers)
            above = min(below + 1, old.layers - 1) if self.knowledge == "advanced" else below
            own, upper = (
                {name.removeprefix(f"blocks.{i}."): t for name, t in state.items() if name.startswith(f"blocks.{i}.")}
                for i in (below, above)
            )
            for name, t in own.items():
                grown[f"blocks.{layer}.{name}"] = inner[below].grow(name, t, upper[name], width)
        for name, p in net.named_parameters():
            p.copy_(grown[name])


class _Inner:
    """The heads and hidden units of one layer."""

    def __init__(self, new: Any, old: Any, rng: Rng) -> None:
        keys = repeated(new.kv_heads, old.kv_heads, rng.child("keys"))
        group = repeated(new.heads // new.kv_heads, old.heads // old.kv_heads, rng.child("queries"))
        query = keys.index[:, None] * (old.heads // old.kv_heads) + group.index
        queries = Units(query.flatten(), (keys.fresh[:, None] | group.fresh).flatten())
        self.queries, keys = queries.spread(new.head_width), keys.spread(new.head_width)
        self.qkv = joined(self.queries, old.query_width, keys, old.key_width, keys, old.key_width)
        self.hidden = repeated(new.ffn, old.ffn, rng.child("hidden"))
        self.pair = joined(self.hidden, old.ffn, self.hidden, old.ffn)

    def grow(self, name: str, own: Tensor, upper: Tensor, width: Units) -> Tensor:
        """One parameter of a layer; new heads and hidden units are those of `upper`."""
        kind, what = name.rpartition(".")[::2]
        if kind in ("mixer_norm", "mlp_norm"):
            return wider(own, width, None)
        if kind in ("mixer.q_norm", "mixer.k_norm"):
            return own
        rows = {"mixer.qkv": self.qkv, "mlp.gate_up": self.pair, "mlp.up": self.hidden}.get(kind)
        if rows is not None:
            fresh = rows.fresh if what == "bias" else rows.fresh[:, None]
            return torch.where(fresh, wider(upper, rows, width), wider(own, rows, width))
        if what == "bias":
            return wider(own, width, None)
        columns = {"mixer.out": self.queries, "mlp.down": self.hidden}[kind]
        return torch.where(columns.fresh, wider(upper, width, columns), wider(own, width, columns))


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
