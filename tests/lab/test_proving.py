"""From a file of claims to a record: verdicts, cost, staleness, and what happens to claims that cannot be run."""

from __future__ import annotations

import json
import os
import textwrap
import time

import pytest

from bloomery.cli.main import guarded
from bloomery.core.errors import BadInput
from bloomery.lab import claims, evidence, page
from bloomery.lab.proving import prove
from bloomery.lab.trials import Bench

EXACT = '''
    def five_is_less(lab):
        """5 is less than 7."""
        return [lab.less("count", 5, 7, "bytes")]
'''
TRIALS = '''
    def more_tokens_help(lab):
        """Twice the tokens, lower loss (no figure)."""
        long, short = lab.pretrain(**{knobs}), lab.pretrain(**{{**{knobs}, "tokens": 512}})
        bits = "heldout_bits_per_byte"
        return lab.less("bits", long.values(bits), short.values(bits), "bits/byte")
'''


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An own folder of claims; call it to write a file."""
    root = tmp_path / "checkout"
    monkeypatch.setattr(claims, "folder", lambda: root / "claims")
    monkeypatch.setattr(claims, "checkout", lambda: root)

    def write(title, body):
        file = root / "claims" / f"{title}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(body))
        return claims.read(file, title.split("/")[0])

    return write


def test_a_record_says_what_was_compared_what_it_cost_and_of_what_code_it_speaks(place, store, tiny_world, tiny):
    claim = place("schedule/wsd", TRIALS.format(knobs=tiny))
    record = prove(claim, store, 2, Bench(store, 1), quiet=True)
    (told,) = record["claims"]
    assert told["verdict"] == record["verdict"] and told["trials"] == {"run": 4, "reused": 0} and told["cpu_seconds"] > 0
    assert told["comparisons"][0]["relation"] == "less" and len(told["comparisons"][0]["ours"]) == 2
    assert {"bloomery.methods.schedule.wsd", "claims/schedule/wsd.py"} <= set(record["sources"])
    assert evidence.newest(claim, store.root).record == json.loads(json.dumps(record))
    again = prove(claim, store, 2, Bench(store, 1), quiet=True)
    assert again["claims"][0]["trials"] == {"run": 0, "reused": 4}
    assert again["claims"][0]["cpu_seconds"] == told["cpu_seconds"]  # what it costs, whoever paid
    assert again["claims"][0]["comparisons"] == told["comparisons"]
    assert store.collect(dry=True) == []  # gc keeps what the claim made, and the world


def test_a_verdict_is_stale_when_the_claim_or_the_method_changes(place, store, monkeypatch):
    claim = place("schedule/wsd", EXACT)
    assert evidence.newest(claim, store.root) is None
    prove(claim, store, 2, Bench(store, 1), quiet=True)
    assert not evidence.newest(claim, store.root).stale
    place("schedule/wsd", EXACT + "\n    MORE = 1\n")
    known = evidence.newest(claim, store.root)
    assert known.stale and known.shown == "holds (stale)"
    place("schedule/wsd", EXACT + "\n    import bloomery.lab.heldout\n")
    assert evidence.newest(claim, store.root).stale  # it stands on a part of the lab now
    place("schedule/wsd", EXACT)
    assert not evidence.newest(claim, store.root).stale
    real = evidence.lineage.closure
    monkeypatch.setattr(evidence.lineage, "closure", lambda entries: real([*entries, claims.catalog.entries("optim")["adamw"]]))
    assert evidence.newest(claim, store.root).stale


def test_a_verdict_is_stale_when_a_baseline_or_what_it_imports_changes(place, store, tiny_world, tiny, monkeypatch):
    claim = place("schedule/wsd", TRIALS.format(knobs={**tiny, "optimizer": "galore"}))
    record = prove(claim, store, 2, Bench(store, 1), quiet=True)
    assert {"bloomery.methods.optim.galore", "bloomery.num.projection", "bloomery.methods.backward.autograd"} <= set(record["sources"])
    assert "bloomery.seams" not in record["sources"]  # a new protocol says nothing about this one
    assert not evidence.newest(claim, store.root).stale
    real = evidence.lineage.digest
    monkeypatch.setattr(evidence.lineage, "digest", lambda name: "other" if name == "bloomery.num.projection" else real(name))
    assert evidence.newest(claim, store.root).stale
    monkeypatch.setattr(evidence.lineage, "digest", lambda name: None if name == "bloomery.methods.optim.galore" else real(name))
    assert evidence.newest(claim, store.root).stale


def test_what_a_claim_itself_imports_counts_too(place, store, monkeypatch):
    imports = (
        "num.privacy import noise",
        "methods.compress.rtn import RTN",
        "infer.parity import parity",
        "data.worlds.skills import Skills",
    )
    claim = place("schedule/wsd", "".join(f"\n    from bloomery.{one}" for one in imports) + EXACT)
    known = evidence.sources(claim)
    assert {"bloomery.num.privacy", "bloomery.methods.compress.rtn", "bloomery.num.grids", "bloomery.infer.parity"} <= set(known)
    assert "bloomery.data.worlds.skills" not in known


def test_two_files_of_ones_own_with_one_name_have_records_of_their_own(tmp_path, store):
    found = []
    for folder, sign in (("a", "less"), ("b", "more")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(textwrap.dedent(EXACT).replace("less", sign))
        claim = claims.read(tmp_path / folder / "mine.py")
        prove(claim, store, 2, Bench(store, 1), quiet=True)
        found.append(claim)
    assert len({evidence.stored(store.root, claim) for claim in found}) == 2
    assert all(not evidence.newest(claim, store.root).stale for claim in found)


def test_of_two_records_the_present_one_then_that_of_more_seeds_counts(place, store):
    claim = place("schedule/wsd", EXACT)
    more, fewer = (prove(claim, store, seeds, Bench(store, 1), quiet=True) for seeds in (3, 2))
    at = evidence.stored(store.root, claim)
    assert len(evidence.read(at)["seeds"]) == 3  # two seeds said nothing new
    assert not evidence.keep(at, fewer) and evidence.keep(at, more)
    gone = {**more, "seeds": [1, 2, 3, 4], "sources": {**more["sources"], "bloomery.gone": "0"}, "date": "2099-01-01T00:00:00+00:00"}
    evidence.write(evidence.shipped(claim), gone)
    assert len(evidence.newest(claim, store.root).record["seeds"]) == 3
    evidence.write(evidence.shipped(claim), {**more, "seeds": [1, 2, 3, 4], "date": "2001-01-01T00:00:00+00:00"})
    assert len(evidence.newest(claim, store.root).record["seeds"]) == 4


def test_the_newer_of_store_and_checkout_counts_and_damage_is_named(place, store):
    claim = place("schedule/wsd", EXACT)
    record = prove(claim, store, 2, Bench(store, 1), quiet=True)
    evidence.write(evidence.shipped(claim), {**record, "verdict": "undecided", "date": "2099-01-01T00:00:00+00:00"})
    assert evidence.newest(claim, store.root).verdict == "undecided"
    evidence.write(evidence.shipped(claim), {**record, "verdict": "undecided", "date": "2001-01-01T00:00:00+00:00"})
    assert evidence.newest(claim, store.root).verdict == "holds"
    evidence.shipped(claim).write_text("{}")
    with pytest.raises(BadInput, match="damaged"):
        evidence.newest(claim, store.root)


def test_stalest_first(place, store):
    old, stale, new, never = (place(f"optim/{name}", EXACT) for name in ("old", "stale", "new", "never"))
    for claim, year in ((old, 2020), (new, 2024), (stale, 2025)):
        record = prove(claim, store, 1, Bench(store, 1), quiet=True)
        evidence.write(evidence.stored(store.root, claim), {**record, "date": f"{year}-01-01T00:00:00+00:00"})
    place("optim/stale", EXACT + "\n    X = 1\n")
    assert [one.name for one in evidence.stalest_first([new, old, stale, never], store.root)] == ["never", "stale", "old", "new"]


def test_a_claim_that_cannot_be_run_is_one_sentence_and_the_others_go_on(place, store, capfd):
    place("schedule/wsd", EXACT + '\n    def breaks(lab):\n        """Breaks 1."""\n        return [1 / 0]\n')
    place("schedule/constant", EXACT)
    place("optim/adamw", '\n    def nothing(lab):\n        """Says 0."""\n')
    assert guarded(["prove", "--all", "--store", str(store.root), "--json", "--workers", "1"]) == 1
    told = {(one["claim"], one["name"]): one for one in map(json.loads, capfd.readouterr().out.splitlines())}
    assert told["schedule/wsd", "breaks"]["error"] == "ZeroDivisionError: division by zero"
    assert "at least one of it" in told["optim/adamw", "nothing"]["error"]
    assert told["schedule/wsd", "five_is_less"]["verdict"] == told["schedule/constant", "five_is_less"]["verdict"] == "holds"
    assert evidence.newest(claims.find(["constant"])[0], store.root) is not None
    assert evidence.newest(claims.find(["wsd"])[0], store.root) is None  # half a record is none


def test_a_refuted_claim_is_an_honest_result(place, store, capfd):
    place("schedule/wsd", EXACT.replace("5, 7", "7, 5"))
    assert guarded(["prove", "wsd", "--store", str(store.root), "--quiet", "--workers", "1"]) == 0
    assert "does not hold at this scale (" in capfd.readouterr().out


def test_the_command_line(place, store, capfd):
    place("schedule/wsd", EXACT)
    at = ["--store", str(store.root)]
    assert guarded(["prove", "wds", *at]) == 2 and "did you mean wsd" in capfd.readouterr().err
    assert guarded(["prove", *at]) == 2 and guarded(["prove", "wsd", "--all", *at]) == 2
    assert guarded(["prove", "--list", *at]) == 0 and "not proven yet" in capfd.readouterr().out
    assert guarded(["prove", "--all", "--budget", "0.0000001s", "--quiet", *at]) == 0
    assert "not begun: schedule/wsd" in capfd.readouterr().err
    assert guarded(["prove", "--all", "--budget", "soon", *at]) == 2
    assert guarded(["prove", "--seam", "schedule", "--quiet", "--workers", "1", *at]) == 0
    capfd.readouterr()
    assert guarded(["prove", "--list", "--json", *at]) == 0
    listed = json.loads(capfd.readouterr().out)
    assert (listed["claim"], listed["verdict"], listed["stale"]) == ("schedule/wsd", "holds", False)
    assert guarded(["methods", "--seam", "schedule", "--json", *at]) == 0
    found = {one["name"]: one for one in map(json.loads, capfd.readouterr().out.splitlines())}
    assert (found["wsd"]["verdict"], found["wsd"]["stale"], found["constant"]["verdict"]) == ("holds", False, None)


def test_recording_keeps_the_result_beside_the_claim_and_draws_the_page(place, store):
    claim = place("schedule/wsd", EXACT)
    place("schedule/constant", EXACT)
    assert guarded(["prove", "wsd", "--record", "--quiet", "--store", str(store.root), "--workers", "1"]) == 0
    assert evidence.read(claim.file.with_suffix(".json"))["name"] == "wsd"
    docs = claims.checkout() / "docs"
    text = (docs / "evidence.md").read_text()
    assert "[schedule/wsd](../claims/schedule/wsd.py) | five is less | holds |" in text and "constant" not in text
    assert (docs / "evidence" / "schedule.svg").read_text().startswith("<svg")
    (docs / "evidence" / "gone.svg").touch()
    page.write(evidence.recorded(claims.all_claims()), docs)
    assert not (docs / "evidence" / "gone.svg").exists()


def test_a_busy_trial_is_waited_for(lab, store):
    """Another process holds the lock of the same artifact for a moment."""
    import fcntl
    import threading

    made = lab(seeds=1)
    (run,) = made.pretrain()
    name = run.artifact.name
    store._discard(run.artifact.folder)
    held = open(store.work / f"{name}.lock", "a+")  # noqa: SIM115 - closed by the thread
    fcntl.flock(held, fcntl.LOCK_EX)
    began = time.monotonic()
    threading.Timer(0.7, held.close).start()
    (again,) = lab(seeds=1).pretrain()
    assert again.artifact.name == name and time.monotonic() - began > 0.6 and os.environ["OMP_NUM_THREADS"] == "1"
