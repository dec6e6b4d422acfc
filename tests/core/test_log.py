"""The log: JSON lines always, plain lines off a terminal, a bar on one."""

from __future__ import annotations

import io
import json

from bloomery.core.log import Log


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_events_are_json_lines(tmp_path):
    log = Log(tmp_path / "log.jsonl", quiet=True)
    log.event("train", step=1, loss=2.5)
    with log.progress("reading", total=3, unit="documents") as bar:
        bar.advance(3, "fine")
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["train", "begin", "end"]
    assert lines[0]["loss"] == 2.5 and lines[2]["done"] == 3 and lines[2]["note"] == "fine"


def test_a_resumed_log_goes_on(tmp_path):
    for i in range(2):
        log = Log(tmp_path / "log.jsonl", quiet=True)
        log.event("start", attempt=i)
        log.close()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2


def test_plain_lines_elsewhere():
    stream = io.StringIO()
    log = Log(label="lm", stream=stream)
    with log.progress("training", total=200, unit="steps") as bar:
        bar.printed, bar.began = bar.printed - 10, bar.began - 10
        bar.advance(50, "loss 3.1")
        bar.advance(1)
    assert stream.getvalue() == "[lm] training:  25% 50/200 steps loss 3.1, 0:00:30 left\n"


def test_a_bar_on_a_terminal():
    stream = Terminal()
    log = Log(label="lm", stream=stream)
    with log.progress("training", total=10, unit="steps") as bar:
        bar.advance(5)
        log.say("half way")
    assert "half way" in stream.getvalue() and "training" in stream.getvalue()
    assert log.live is None


def test_quiet_says_nothing():
    stream = io.StringIO()
    Log(stream=stream, quiet=True).say("x")
    assert stream.getvalue() == ""
