"""The contest of compression: medians and ratios, and contenders that are not there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def contest(monkeypatch: pytest.MonkeyPatch):
    """The benchmark's module, whose names are as short as scripts may have them."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    util = __import__("importlib.util").util
    spec = util.spec_from_file_location("contest_of_compression", FOLDER / "compress.py")
    module = util.module_from_spec(spec)
    sys.modules["contest_of_compression"] = module
    spec.loader.exec_module(module)
    yield module
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("contest_of_compression", "contenders"):
            del sys.modules[name]


def test_ratios_are_of_medians_and_ours_is_one(contest, capsys) -> None:
    ours = contest.Contender("bloomery-bf16", "", seconds=[4.0, 1.0, 2.0], processor=[1.0, 1.0, 7.0])
    peer = contest.Contender("llmcompressor", "", seconds=[9.0, 6.0, 5.0], processor=[2.0, 3.0, 4.0])
    contest.report("compress-3M", [ours, peer], as_json=True)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["ratio"], first["processor_ratio"]) == (1.0, 1.0)
    assert (second["ours"], second["peer_value"], second["ratio"], second["processor_ratio"]) == (2.0, 6.0, 3.0, 3.0)


def test_a_peer_without_an_environment_is_skipped_by_name(contest, tmp_path, capsys) -> None:
    job = contest.Job("", "", "", "", 1, start=True)
    peer = contest.Contender("gptqmodel", "quantize_gptqmodel", "compress-gptqmodel")
    assert not peer.run(job, tmp_path, tmp_path / "peers")
    assert "gptqmodel skipped" in (said := capsys.readouterr().err) and "make peers-compress" in said
    assert json.loads((tmp_path / "gptqmodel" / "job.json").read_text())["start"] is True
