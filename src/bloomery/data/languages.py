"""The language of a text, by the detector that py3langid ships: naive Bayes over byte n-grams, 97 languages, nothing downloaded.

Source: Lui & Baldwin 2012, "langid.py: an off-the-shelf language identification tool".
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Any

from bloomery.core.errors import BadInput


def detector(who: str) -> Any:
    """The detector; BadInput, in the name of who asks, where the package is missing."""
    try:
        return _loaded()
    except ImportError:
        raise BadInput(f"{who} needs the package py3langid, which ships its model; say pip install 'bloomery[language]'") from None


@lru_cache(maxsize=1)
def _loaded() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def likeliest(text: str, among: Collection[str], who: str) -> str:
    """The likeliest of some languages, by ISO 639-1 code; empty for a text without letters, which is in none."""
    if not any(map(str.isalpha, text)):
        return ""
    ranked = dict(detector(who).rank(text))
    return max(sorted(set(among) & ranked.keys()), key=lambda code: ranked[code], default="")
