"""The worlds that trials are made in: small corpora with known properties, by name. A world is a curate step and a tokenize step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput, near
from bloomery.core.store import Artifact
from bloomery.data.worlds import opening

LIGHT = {"signals": ["length"], "near": 0.0, "guard": 0.0, "heldout": 0.1}  # a world is clean already: nothing is to be sifted
TABLE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "python": (
        {"sources": [{"from": "python://", "size": "6MB"}], "signals": ["length"], "keep": "length.words >= 20"},
        {"vocab": 1024, "sample": "3MB"},
    ),
}
OTHERS = {"vocab": 512, "sample": "2MB"}  # tokenize knobs of a world that the table does not name
BYTES = {"vocab": 262, "sample": "2MB"}  # where a symbol is one character: a token is a byte (with `spare`, raise `vocab` by as much)
TABLE |= {name: ({**LIGHT, "sources": [f"world://{name}"]}, BYTES) for name in ("arithmetic", "grammar", "image", "series", "skills")}


@dataclass(frozen=True)
class World:
    """A corpus and its tokens in the store."""

    name: str
    corpus: Artifact
    tokens: Artifact

    @property
    def artifacts(self) -> dict[str, Artifact]:
        """By the names under which steps refer to them."""
        return {"corpus": self.corpus, "tokens": self.tokens}


def known() -> list[str]:
    """Names of all worlds: those of the table and those of data/worlds."""
    return sorted({*TABLE, *opening.NAMES})


def steps(name: str, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The two steps of a world. An option is a knob of curate or of tokenize, and otherwise one of the source. They have a seed of
    their own, so that every trial reads the same text."""
    if name not in known():
        raise BadInput(f"there is no world '{name}'; {near(name, known())}")
    stages = catalog.entries("stage")
    curate, tokenize = TABLE.get(name, ({**LIGHT, "sources": [f"world://{name}"]}, OTHERS))
    for_curate = {key: value for key, value in options.items() if key in stages["curate"].knobs}
    for_tokenize = {key: value for key, value in options.items() if key in stages["tokenize"].knobs}
    rest = {key: value for key, value in options.items() if key not in for_curate and key not in for_tokenize}
    sources = [{**({"from": one} if isinstance(one, str) else one), **rest} for one in curate["sources"]]
    return {
        "corpus": {"stage": "curate", "seed": 0, **curate, "sources": sources, **for_curate},
        "tokens": {"stage": "tokenize", "seed": 0, "corpus": "$corpus", **tokenize, **for_tokenize},
    }
