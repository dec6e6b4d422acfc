"""The language of a text."""

from __future__ import annotations

import pytest

pytest.importorskip("py3langid")

from bloomery.core.errors import BadInput
from bloomery.data import languages
from bloomery.data.languages import likeliest


def test_the_likeliest_of_those_asked_for():
    text = "Ceci est une phrase simple sur le temps, qui a été beau toute la journée."
    assert likeliest(text, {"en", "fr", "de"}, "x") == "fr" and likeliest(text, {"en", "de"}, "x") in {"en", "de"}
    assert likeliest("12 + 3", {"en"}, "x") == "" == likeliest("", {"en"}, "x") and likeliest(text, {"zz"}, "x") == ""


def test_without_the_package_it_says_what_to_install(monkeypatch):
    def missing():
        raise ImportError

    monkeypatch.setattr(languages, "_loaded", missing)
    with pytest.raises(BadInput, match=r"thing needs the package py3langid.*bloomery\[language\]"):
        likeliest("a", {"en"}, "thing")
