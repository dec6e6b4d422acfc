"""Further fields of a model's shape, as a recipe gives them."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from bloomery.core.errors import near
from bloomery.nn.config import Config

KNOBS = {
    "vocab",
    "width",
    "layers",
    "heads",
    "kv_heads",
    "ffn",
    "context",
    "causal",
    "experts",
    "top",
    "expert_ffn",
    "shared_ffn",
    "modules",
}
APART = {"encoder_layers", "token_types"}  # they read what no row of text has
FURTHER = [one.name for one in fields(Config) if one.name not in KNOBS | APART]

NEEDED = {  # by a field that says nothing else without it
    "rope_base": ("positions", "rotary"), "rope_scaling": ("positions", "rotary"), "rotary_share": ("positions", "rotary"),
    "local_rope_base": ("windows", None), "relative_buckets": ("positions", "relative"), "relative_distance": ("positions", "relative"),
    "norm_bias": ("norm", "layer"), "qk_norm_whole": ("qk_norm", None), "head_transform_bias": ("head_transform", None),
    "top_normalised": ("experts", None), "dense_layers": ("experts", None),
}  # fmt: skip


def effective(cfg: Config, given: Mapping[str, Any]) -> Config:
    """The same; ValueError, one clause, for a field that changes nothing here, because another one is not as it would have to be."""
    usual = {one.name: one.default for one in fields(Config)}
    for name in given:
        other, wanted = NEEDED.get(name, ("vocab", None))
        there = getattr(cfg, other)
        if getattr(cfg, name) != usual[name] and not (there == wanted if wanted else there):
            mend = f"{other} {wanted}" if wanted else other
            raise ValueError(f"model.{name}: it changes nothing without {mend}; leave it out")
    return cfg


def further(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those fields in their types; ValueError, one clause, for an unknown name, one that is a knob of its own, or a wrong value."""
    from pydantic import TypeAdapter, ValidationError

    hints, found = typing.get_type_hints(Config), {}
    for name, value in given.items():
        if name in KNOBS:
            raise ValueError(f"model: {name} is a knob of the step itself")
        if name not in FURTHER:
            raise ValueError(f"model: a model has no field {name!r} that a recipe sets; {near(str(name), FURTHER)}")
        try:
            found[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as wrong:
            said = wrong.errors()[0]["msg"]
            raise ValueError(f"model.{name}: {said[0].lower()}{said[1:]}, got {value!r}") from None
    return found
