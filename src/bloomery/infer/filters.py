"""Filters at work: what they make of logits, the token drawn from what they leave, and the other models that they read.

Shapes: B rows, T tokens so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.seams import Filter


def draw_tokens(
    logits_BV: Tensor, tokens_BT: Tensor | None, filters: Sequence[Filter], draw_B1: Tensor, others: Mapping[str, Tensor] | None = None
) -> Tensor:  # fmt: skip
    """One token per row from the filtered distribution, by inverting its cumulative sum; `others` are the logits of other models."""
    reached_BV = filtered(logits_BV, tokens_BT, filters, others).softmax(-1).double().cumsum(-1)
    return torch.searchsorted(reached_BV, draw_B1.to(reached_BV.device) * reached_BV[:, -1:], right=True)[:, 0]


def filtered(logits_BV: Tensor, tokens_BT: Tensor | None, filters: Sequence[Filter], others: Mapping[str, Tensor] | None = None) -> Tensor:
    """What the filters, one after the other, make of the logits, in fp32."""
    seen = {**(others or {}), "logits:net": logits_BV.float()}
    for one in filters:
        seen["logits:net"] = one.filter(tokens_BT, seen)
    return seen["logits:net"]


def roles_of(filters: Sequence[Filter]) -> list[str]:
    """The roles of other models whose logits are read, in order."""
    read = [what.removeprefix("logits:") for one in filters for what in one.reads if what.startswith("logits:")]
    return [role for role in dict.fromkeys(read) if role != "net"]


def reads_tokens(filters: Sequence[Filter]) -> bool:
    """Whether a filter looks at the tokens so far."""
    return any("tokens" in one.reads for one in filters)


def named(filters: Sequence[Filter], others: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `others` that the filters read; BadInput where one is not there."""
    roles = roles_of(filters)
    if missing := [role for role in roles if role not in others]:
        readers = {type(one).__name__ for one in filters if f"logits:{missing[0]}" in one.reads}
        raise BadInput(f"{', '.join(sorted(readers))} reads the logits of a model called {missing[0]}; name one under roles")
    return {role: others[role] for role in roles}
