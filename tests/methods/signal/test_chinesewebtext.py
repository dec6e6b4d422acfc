from __future__ import annotations

import json
import random

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.signal.chinesewebtext import Chinesewebtext, repeated
from bloomery.seams import Doc

GOOD, BAD, BOTH = "河水村庄老人孩子夏天雷雨学校田野", "点击登录注册优惠领取免费下载", "的了在是我有和就不人"


def made(letters: str, seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(letters + BOTH, k=60)) for _ in range(count)]


def test_exact_by_hand(tmp_path):
    (tmp_path / "words.txt").write_text("赌博\n\n色情\n赌博\n")
    text = "你好，世界\nabc赌博赌博"
    found = Chinesewebtext(words=str(tmp_path / "words.txt")).columns([Doc("a", text), Doc("b", "")], None)
    assert {name: values.tolist() for name, values in found.items()} == {
        "characters": [13, 0], "line_length": [6.5, 0], "chinese": [8 / 13, 0], "sensitive": [0.5, 0], "repeated": [0, 0],
    }  # fmt: skip


def test_exact_repeated_runs_of_thirteen():
    assert repeated("abcdefghijklm") == 0 and repeated("") == repeated("短") == 0
    assert repeated("Abcdefghijklm x abc def\nghi jklm") == 2 / 15, "two of 15 runs, blanks and case aside"
    assert repeated("一" * 30) == 1.0


def test_property_a_brute_count_agrees():
    draw = random.Random(1)
    for size in (5, 13, 14, 40, 200):
        text = "".join(draw.choices("一二", k=size))
        runs = [text[k : k + 13] for k in range(size - 12)]
        assert repeated(text) == pytest.approx(sum(runs.count(run) > 1 for run in runs) / max(1, len(runs)))


def test_property_the_scorer_tells_unseen_text_without_spaces_apart(tmp_path):
    for name, letters in (("good", GOOD), ("bad", BAD)):
        rows = (json.dumps({"text": text}) + "\n" for text in made(letters, 1, 40))
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    method = Chinesewebtext(good=str(tmp_path / "good.jsonl"), bad=str(tmp_path / "bad.jsonl"), buckets=4096)
    docs = [Doc("", text) for text in (*made(GOOD, 2, 20), *made(BAD, 3, 20))]
    quality = method.columns(docs, None)["quality"]
    assert quality[:20].min() > 0.8 and quality[20:].max() < 0.2
    assert "quality" in method.columns([], None) and "quality" not in Chinesewebtext().columns([], None)
    assert np.array_equal(quality[3:4], method.columns(docs[3:4], None)["quality"])


def test_bad_input(tmp_path):
    with pytest.raises(BadInput, match=r"chinesewebtext\.words: .* cannot be read"):
        Chinesewebtext(words=str(tmp_path / "none")).columns([Doc("", "x")], None)
    with pytest.raises(ValueError, match="good and bad go together"):
        Chinesewebtext(good="x")
