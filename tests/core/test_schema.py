"""The JSON Schema of recipes."""

from __future__ import annotations

import json

from bloomery.core import catalog
from bloomery.core.schema import recipe_schema


def test_every_stage_method_and_knob_is_in_it():
    schema = recipe_schema()
    json.dumps(schema)
    for entry in catalog.entries("stage").values():
        stage = schema["$defs"][f"stage.{entry.name}"]
        assert set(entry.knobs) | {"stage", "seed"} == set(stage["properties"])
        assert stage["required"][0] == "stage"
    for entry in catalog.all_methods():
        forms = schema["$defs"][entry.seam]["anyOf"]
        (one,) = [form for form in forms if entry.name in form.get("properties", {})]
        assert set(one["properties"][entry.name]["properties"]) == set(entry.knobs)
        assert entry.name in forms[0]["enum"]


def test_references_lead_somewhere():
    schema = recipe_schema()
    text = json.dumps(schema)
    for piece in text.split('"$ref": "#/$defs/')[1:]:
        assert piece.partition('"')[0] in schema["$defs"]
