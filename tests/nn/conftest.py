"""Lets tests of this folder import `coded`, and the folder of a small tokenizer that models are written with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bloomery.data.tokenizer import learn

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    learn(["some words and some more words"] * 20, 262).save(folder)
    return folder
