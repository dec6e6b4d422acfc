"""A model whose words are its own: what whoever gives it texts opens it by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bloomery.infer import model as models
from bloomery.infer.model import Model
from bloomery.infer.spelling import sure


def load(where: str | Path, **how: Any) -> Model:
    """`infer.model.load`, and BadInput for a tokenizer with tokens that the model does not have: the first text that holds one of them
    would fail in the midst of the work."""
    found = models.load(where, **how)
    sure(found.tokenizer, found.net.cfg.vocab, found.folder)
    return found
