"""`bloomery schema`: the JSON Schema of recipes."""

from __future__ import annotations

NAME = "schema"


def command() -> None:
    """Print the JSON Schema of recipes.

    For editors that complete and check YAML.
    """
    import json

    from bloomery.core.schema import recipe_schema

    print(json.dumps(recipe_schema(), indent=1))
