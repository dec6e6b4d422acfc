"""Who is compared with whom."""

from __future__ import annotations

from bloomery.draw.scores import contests, headline_contest, is_main, results, shown
from bloomery.draw.training import levels


def row(subject, value, metric="bits_per_byte", task="heldout", **more):
    return {"task": task, "metric": metric, "value": value, "low": None, "high": None, "subject": subject, "n": 3, "note": "", **more}


ROWS = [
    row("lm", 2.0),
    row("gzip -9, each file", 2.8),
    row("gzip -9, all together", 2.4),
    row("xz -9, each file", 2.9),
    row("5-gram", 2.2),
    row("lm", 0.5, "parses", "parses"),
    row("real text", 0.9, "parses", "parses"),
    row("lm", float("nan"), "odd"),
]


def test_headline_is_against_the_strongest_gzip():
    found = headline_contest(contests(ROWS))
    assert found.best(main=True)["value"] == 2.0 and found.strongest("gzip")["value"] == 2.4
    assert [r["subject"] for r in found.rivals()] == ["5-gram", "gzip -9, all together", "xz -9, each file"]
    assert levels(ROWS) == [("5-gram", 2.2), ("gzip -9", 2.4), ("xz -9", 2.9)]


def test_direction():
    parses = next(c for c in contests(ROWS) if c.metric == "parses")
    assert parses.better == "higher" and parses.ranked()[0]["subject"] == "real text"
    assert contests([row("a", 1, "strange", better="lower"), row("b", 2, "strange")])[0].better == "lower"
    assert contests([row("a", 1, "strange")])[0].better == ""


def test_same_subjects_on_several_tasks_are_several_contests():
    found = contests([row("lm", 1, task="a"), row("gzip", 2, task="a"), row("lm", 3, task="b"), row("gzip", 4, task="b")])
    assert [(c.task, len(c.rows)) for c in found] == [("a", 2), ("b", 2)]


def test_no_gzip_no_claim():
    assert headline_contest(contests([row("gzip -9", 2.0)])) is None and levels([]) == []
    assert headline_contest(contests([row("lm", 2.0)])).strongest("gzip") is None


def test_units():
    def text(metric, value, **more):
        return shown({"metric": metric, **more}, value).replace("\u202f", " ")

    assert text("bytes", 13_640_112) == "13.6 MB" and text("parses", 0.62) == "62 %" and text("decode_tokens_per_second", 412.0) == "412"
    assert text("seconds", 3.0) == "3.0 s" and text("anything", 0.5, unit="share") == "50 %" and text("bits_per_byte", None) == "–"
    assert not is_main({"subject": "gzip -9"}) and is_main({"subject": "lm"})


def test_results_show_every_row():
    found = results(ROWS)
    assert len(found["rows"]) == len(ROWS) and [c["name"] for c in found["charts"]] == ["Bits per byte", "Parses"]
