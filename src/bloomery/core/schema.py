"""The JSON Schema of recipes, for editors: every stage, method and knob with its type, default and help."""

from __future__ import annotations

from typing import Any

from bloomery.core import catalog
from bloomery.core.knobs import Knob
from bloomery.seams import SEAMS


def recipe_schema() -> dict[str, Any]:
    """A schema (draft 2020-12) that accepts the recipes which `recipe.parse` accepts, up to references and ranges."""
    stages = catalog.entries("stage")
    step = {"oneOf": [{"$ref": f"#/$defs/stage.{name}"} for name in stages] + [{"$ref": "#/$defs/group"}]}
    group = {
        "type": "object",
        "description": "a group of steps, run in rounds",
        "required": ["repeat", "steps"],
        "additionalProperties": False,
        "properties": {
            "repeat": {"type": "integer", "minimum": 1},
            "start": {"type": "object"},
            "steps": {"type": "object", "additionalProperties": {"$ref": "#/$defs/step"}},
        },
    }
    definitions: dict[str, Any] = {"step": step, "group": group}
    definitions |= {f"stage.{name}": stage_schema(entry) for name, entry in stages.items()}
    definitions |= {seam: seam_schema(seam) for seam in SEAMS}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "bloomery recipe",
        "type": "object",
        "additionalProperties": False,
        "if": {"required": ["extends"]},  # a variant states differences, which need not be whole steps
        "then": {"properties": {"steps": {"additionalProperties": {"type": ["object", "null"]}}}},
        "else": {"required": ["steps"], "properties": {"steps": {"minProperties": 1, "additionalProperties": {"$ref": "#/$defs/step"}}}},
        "properties": {
            "name": {"type": "string", "pattern": r"^[\w.-]+$"},
            "about": {"type": "string"},
            "seed": {"type": "integer", "default": 0},
            "extends": {"type": "string", "description": "a recipe of which this one states the differences"},
            "roles": {"type": "object", "additionalProperties": {"type": "string"}},
            "steps": {"type": "object"},
        },
        "$defs": definitions,
    }


def stage_schema(entry: catalog.Entry) -> dict[str, Any]:
    knobs = {"stage": {"const": entry.name}, "seed": {"type": "integer"}, **{knob.name: knob_schema(knob) for knob in entry.knobs.values()}}
    required = ["stage", *(knob.name for knob in entry.knobs.values() if knob.required)]
    return {"type": "object", "description": entry.summary, "required": required, "additionalProperties": False, "properties": knobs}


def seam_schema(seam: str) -> dict[str, Any]:
    """A method of a seam: its name, or its name with knobs; a dotted path names one of another package."""
    known = catalog.entries(seam)
    forms: list[dict[str, Any]] = [{"enum": list(known)}] if known else []
    for entry in known.values():
        knobs = {
            "type": ["object", "null"],
            "additionalProperties": False,
            "properties": {knob.name: knob_schema(knob) for knob in entry.knobs.values()},
        }
        forms.append(
            {
                "type": "object",
                "description": entry.summary,
                "required": [entry.name],
                "additionalProperties": False,
                "properties": {entry.name: knobs},
            }
        )
    return {"anyOf": [*forms, {"type": "string", "pattern": r"^\w+(\.\w+)+$"}]}


def knob_schema(knob: Knob) -> dict[str, Any]:
    """One knob's schema with its help and default."""
    if knob.seam:
        one: dict[str, Any] = {"$ref": f"#/$defs/{knob.seam}"}
    elif knob.artifact:
        one = {"type": "string", "description": f"a {knob.artifact}: $step, @artifact or a folder"}
    else:
        one = knob.json_schema()
    schema = {"type": "array", "items": one} if knob.many and (knob.seam or knob.artifact) else one
    if knob.named:
        schema = {"type": "object", "additionalProperties": one}
    if knob.optional:
        schema = {"anyOf": [schema, {"type": "null"}]}
    known = {"description": knob.help} if knob.help else {}
    return {**schema, **known} | ({} if knob.required else {"default": knob.default})
