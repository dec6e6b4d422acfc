"""What methods need of tools, looked at before any work: `needs = ("score:teacher", "run")` of a method against the roles of a recipe."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from bloomery.core.errors import BadInput, near

OFFERED = ("ask", "score", "embed", "search", "run", "grade")  # verbs of seams.Tools that `local` has
WITH_MODELS = ("ask", "score", "embed", "search")


def needs(methods: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    """(method, need) of all methods, inner ones included."""
    for method in methods:
        if isinstance(method, tuple | list):
            yield from needs(method)
        elif is_dataclass(method):
            yield from ((method, need) for need in getattr(method, "needs", ()))
            yield from needs([getattr(method, field.name) for field in fields(method)])


def needing(method: Any) -> bool:
    """Whether a method, or one within it, needs tools."""
    return any(True for _ in needs([method]))


def bound(methods: Iterable[Any], roles: Collection[str]) -> None:
    """BadInput for a need that is not offered, or whose role the recipe does not bind to a model."""
    for method, need in needs(methods):
        name = type(method).__module__.rpartition(".")[2]
        verb, role, *_ = *need.split(":"), ""
        if verb not in OFFERED:
            raise BadInput(f"{name} needs {need}, and `{verb}` is not offered yet; {near(verb, list(OFFERED))}")
        if verb in WITH_MODELS and (role or "default") not in roles:
            known = f"bound are {', '.join(sorted(roles))}" if roles else "none is bound"
            raise BadInput(f"roles: {name} needs a model in the role {role or 'default'!r}, and {known}; add `roles: {{{role}: $model}}`")
