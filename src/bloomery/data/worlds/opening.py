"""Worlds by name: small standard corpora, made on the spot and always the same, of which the truth is known.

An address is `world://NAME`, with options as a query (`world://grammar?documents=500&seed=1`) or beside it in a recipe's mapping.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any
from urllib.parse import parse_qsl, urlencode

from bloomery.core.errors import BadInput, near
from bloomery.seams import Doc

NAMES = ("arithmetic", "domains", "grammar", "image", "leaks", "lengths", "noisy", "series", "skills", "twins")
PREFIX = "world://"


def open_world(name: str, options: Mapping[str, Any] | None = None) -> Any:
    """The `World` of a name: `document(i)` for i below `documents`. BadInput for unknown names and options, and for wrong values."""
    if name not in NAMES:
        raise BadInput(f"sources: {PREFIX}{name}: there is no such world; {near(name, list(NAMES))}")
    kind = importlib.import_module(f"bloomery.data.worlds.{name}").World  # by name: the fingerprint says what a world's text depends on
    known = {field.name: type(field.default) for field in fields(kind)}
    values: dict[str, Any] = {}
    for option, value in (options or {}).items():
        if option not in known:
            raise BadInput(f"sources: {PREFIX}{name}: unknown option {option!r}; {near(str(option), list(known))}")
        try:
            values[option] = _typed(value, known[option])
        except (TypeError, ValueError):
            raise BadInput(f"sources: {PREFIX}{name}: {option} must be of type {known[option].__name__}, not {value!r}") from None
    try:
        return kind(**values)
    except ValueError as error:
        raise BadInput(f"sources: {PREFIX}{name}: {error}") from None


def _typed(value: Any, kind: type) -> Any:
    """A value of a recipe, or of an address, where all is text."""
    if kind is bool:
        return ("false", "true").index(str(value).lower()) == 1
    if kind is int and isinstance(value, float) and value != int(value):
        raise ValueError(value)
    return kind(value)


def parse(address: str) -> Any:
    """The world of an address."""
    name, _, query = address.removeprefix(PREFIX).partition("?")
    return open_world(name, dict(parse_qsl(query)))


def address(name: str, options: Mapping[str, Any] | None = None) -> str:
    """The address of a world with all of its options, so that equal worlds have equal addresses."""
    world = open_world(name, options)
    return f"{PREFIX}{name}?{urlencode({field.name: getattr(world, field.name) for field in fields(world)})}"


def documents(name: str, options: Mapping[str, Any] | None = None) -> Iterator[Doc]:
    """The documents of a world, by the ids that they have in a corpus; their meta holds domain, package and what else is known."""
    world = open_world(name, options)
    return (identified(name, world, i) for i in range(world.documents))


def identified(name: str, world: Any, i: int) -> Doc:
    """Document `i` under its id in a corpus."""
    doc = world.document(i)
    doc.id = f"{name}-{world.seed}-{i:06d}"
    return doc


def optimal_bits(name: str, options: Mapping[str, Any] | None = None, domain: str = "") -> float:
    """Bits per byte that the best model needs on a world's text (of one domain, or of all), where this is known: grammar, series, image.

    Ends of documents are free in it. BadInput for other worlds.
    """
    world = open_world(name, options)
    if not hasattr(world, "optimal_bits"):
        raise BadInput(f"the best loss on {PREFIX}{name} is not known; use grammar, series or image")
    return float(world.optimal_bits(domain))
