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
