"""A parser that crashes, hangs, swells or prints costs one document, with its reason."""

from __future__ import annotations

import os
import sys

import pytest

from bloomery.core.errors import BadInput
from bloomery.data.documents import Broken, Unread
from bloomery.data.read import guard, html
from bloomery.data.read.guard import Guarded
from bloomery.seams import Doc

MEMORY = 256_000_000
PARSER = """
import ctypes, os, sys, time

def begin(): pass

def parse(data, about):
    text = data.decode()
    if "exit" in text: os._exit(0)
    if "segfault" in text: ctypes.string_at(1)
    if "abort" in text: os.abort()
    if "hang" in text:
        while True: pass
    if "sleep" in text: time.sleep(1000)
    if "swell" in text: return {"text": "x" * 10**9, "meta": {}}
    if "recurse" in text: return parse(data, about)
    if "print" in text:
        print("noise"); os.write(1, b"noise"); sys.stderr.write("noise")
    return {"text": text.upper(), "meta": {"pid": os.getpid()}}
"""


@pytest.fixture
def parser(tmp_path, monkeypatch):
    (tmp_path / "poisoned_parser.py").write_text(PARSER)
    monkeypatch.syspath_prepend(str(tmp_path))
    guarded = Guarded("poisoned_parser", 1.0, MEMORY)
    yield guarded
    guarded.close()


def test_each_poison_costs_one_document(parser, monkeypatch):
    reasons = {}
    for text in ("good", "exit", "segfault", "abort", "hang", "sleep", "swell", "recurse", "print"):
        monkeypatch.setattr(guard, "PATIENCE", 1.0 if text == "sleep" else 30.0)
        try:
            assert parser.parse(text.encode(), {})["text"] == text.upper()
        except Unread as why:
            reasons[text] = why
            monkeypatch.setattr(guard, "PATIENCE", 30.0)
            assert parser.parse(b"after", {})["text"] == "AFTER"
    assert {text: why.reason for text, why in reasons.items()} == {
        **dict.fromkeys(("exit", "segfault", "abort"), "parser crashed"),
        **dict.fromkeys(("hang", "sleep"), "parser too slow"),
        "swell": "parser out of memory",
        "recurse": "malformed",
    }
    assert reasons["segfault"].note == "killed by SIGSEGV" and reasons["exit"].note == "exit code 0"
    assert reasons["hang"].note == "more than 1 s of CPU time" and reasons["sleep"].note == "it has slept for 1 s"
    assert "RecursionError" in reasons["recurse"].note


def test_one_process_serves_many_documents_and_large_ones(parser):
    pids = {parser.parse(b"x" * size, {})["meta"]["pid"] for size in (1, 10, 5_000_000)}
    assert len(pids) == 1 and os.getpid() not in pids


def test_a_parser_that_cannot_be_loaded_is_one_sentence():
    with pytest.raises(BadInput, match="cannot be loaded: ModuleNotFoundError"):
        Guarded("no_such_parser", 1.0, MEMORY).parse(b"", {})


def test_a_crashing_page_among_good_ones_is_quarantined(tmp_path, monkeypatch, parser, read):
    monkeypatch.setattr(html, "PARSER", "poisoned_parser")
    for name, text in {"a": "good", "b": "segfault", "c": "hang", "d": "fine"}.items():
        (tmp_path / f"{name}.html").write_text(text)
    found = read({"from": f"{tmp_path}/*.html", "seconds": 1, "memory": "256MB"})
    assert [one.text if isinstance(one, Doc) else one.reason for one in found] == ["GOOD", "parser crashed", "parser too slow", "FINE"]
    assert all(one.note for one in found if isinstance(one, Broken))


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by the kernel of Linux alone")
def test_pages_that_bait_the_parser(tmp_path, read):
    pytest.importorskip("trafilatura")
    bait = {
        "deep": "<div>" * 2000 + "text",
        "entities": "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>" + "".join(f"<!ENTITY b{i} '&a;&a;&a;'>" for i in range(99)) + "]><p>&b9;</p>",
        "nul": "\0" * 4000,
    }
    for name, text in bait.items():
        (tmp_path / f"{name}.html").write_text(text)
    (tmp_path / "z.html").write_text(
        "<html><body><article><p>" + "A plain sentence that is read as it is. " * 20 + "</p></article></body></html>"
    )
    found = read({"from": f"{tmp_path}/*.html", "seconds": 4})
    assert len(found) == len(bait) + 1 and isinstance(found[-1], Doc), "each is a document or has its reason, and none takes another along"
