"""Asking a task's items: the same at any batch, and nothing asked twice, whenever the process is killed."""

from __future__ import annotations

import json
import math
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from bloomery.core.executors import Local
from bloomery.core.job import Job
from bloomery.core.log import Log
from bloomery.core.signals import Signals
from bloomery.data.journal import Journal
from bloomery.data.tokenizer import learn
from bloomery.infer.answers import Examinee
from bloomery.infer.exam import ask, worst
from bloomery.infer.model import load
from bloomery.infer.sampler import Sampler
from bloomery.methods.filter.temperature import Temperature
from bloomery.methods.rollout.single import Single
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Grade, Item, Rng

RNG = Rng((1, "exam"))
WORDS = ["one", "two", "three", "four", "five", "six", "seven"]
ITEMS = [Item(f"i{k}", " ".join(WORDS[: 1 + k % 7]), "generate", "two", 4 + k % 3, ("e",) if k % 2 else ()) for k in range(11)]
SCORED = [Item(f"s{k}", WORDS[k], "score", " ".join(WORDS[k:]) * 3) for k in range(6)]


class Length:
    """A task whose grade is how much was written."""

    def grade(self, item, episode, tools):
        return Grade(float(len(episode.text)) if item.want == "generate" else sum(episode.logp))


@pytest.fixture(scope="module")
def examinee(tmp_path_factory) -> Examinee:
    from bloomery.core.rng import torch_rng

    folder = tmp_path_factory.mktemp("model")
    learn([" ".join(WORDS) * 9] * 9, 275).save(folder)
    net = Transformer(Config(275, 16, 1, 2, 1, 24, 64))
    for p in net.parameters():
        p.data.normal_(0, 0.4, generator=torch_rng(RNG.child(*p.shape)))
    save(net.eval(), folder)
    return Examinee(load(folder))


def job(root: Path) -> Job:
    return Job(root, root, RNG, 0, Log(quiet=True), Local(1), None, {}, Signals())


def told(examinee: Examinee, items: list[Item], rows: int, filters: tuple, file: Path) -> list[dict]:
    return ask(Sampler(examinee, filters, rows), Single(), None, "length", Length(), items, file, job(file.parent), RNG)


@pytest.mark.parametrize("filters", [(), (Temperature(1.5),)], ids=["greedy", "sampled"])
def test_what_is_written_depends_on_the_item_alone(examinee, tmp_path, filters):
    found = [told(examinee, ITEMS, rows, filters, tmp_path / f"{rows}.jsonl") for rows in (1, 2, 5, 32)]
    assert all(one == found[0] for one in found)
    backwards = told(examinee, ITEMS[::-1], 4, filters, tmp_path / "back.jsonl")
    assert backwards[::-1] == found[0]
    assert len({row["text"] for row in found[0]}) > 4


def test_scores_are_the_same_at_any_batch(examinee, tmp_path, monkeypatch):
    found = []
    for size in (1, 40, 1 << 16):
        monkeypatch.setattr("bloomery.infer.exam.SCORED_TOGETHER", size)
        found.append([row["score"] for row in told(examinee, SCORED, 32, (), tmp_path / f"{size}.jsonl")])
    assert found[0] == pytest.approx(found[1], abs=1e-5) == found[2]


def test_prompt_reply_reference_and_grade_are_written_down(examinee, tmp_path):
    row = told(examinee, ITEMS[:1], 2, (), tmp_path / "a.jsonl")[0]
    assert json.loads((tmp_path / "a.jsonl").read_text()) == row
    assert (row["prompt"], row["target"], row["score"], row["dropped"]) == ("one", "two", len(row["text"]), 0)


@pytest.mark.parametrize("cut", [0, 1, 57, 400, 10**9], ids=lambda cut: f"after {cut} bytes")
def test_killed_while_it_writes_no_item_that_was_written_down_is_asked_again(examinee, tmp_path, monkeypatch, cut):
    """SIGKILL strikes in each batch in turn after so many bytes of its lines; the next process goes on."""
    whole, log, file = Journal.add, tmp_path / "asked.log", tmp_path / "killed.jsonl"
    real = Examinee.answers

    def answers(self, items, *rest, **how):
        with open(log, "a") as out:
            out.writelines(f"{item.id}\n" for item in items)
        return real(self, items, *rest, **how)

    def dying(self, rows):
        data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        with open(self.path, "ab") as out:
            out.write(data[:cut])
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(Examinee, "answers", answers)
    kills, asked = 0, Counter()
    while True:
        known = set(Journal(file).rows)
        log.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            Journal.add = dying if kills < 3 else whole
            try:
                told(examinee, ITEMS, 4, (), file)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        begun = log.read_text().split() if log.is_file() else []
        assert not known & set(begun), "what was written down is asked again"
        asked.update(begun)
        if not os.WIFSIGNALED(status):
            break
        assert len(begun) - len(set(Journal(file).rows) - known) <= 4, "a kill costs more than the batch at hand"
        kills += 1
    rows = [json.loads(line)["id"] for line in file.read_text().splitlines()]
    assert kills == 3 and sorted(rows) == sorted(set(asked)) == sorted(item.id for item in ITEMS)
    assert max(asked.values()) == 1 if cut == 10**9 else max(asked.values()) > 1
    assert told(examinee, ITEMS, 4, (), file) == told(examinee, ITEMS, 4, (), tmp_path / "plain.jsonl")


def test_no_number_is_worse_than_any():
    assert math.isnan(worst(0.0, math.nan)) and math.isnan(worst(math.nan, 0.0)) and worst(0.5, 2.0, 1.0) == 2.0
