"""Annotations: found by address, verified by hash, locked while they are made and read, collected when nothing uses them."""

from __future__ import annotations

import json
import multiprocessing
import threading
from dataclasses import dataclass
from pathlib import Path

from bloomery.core import lineage
from bloomery.core.annotations import Annotation, held, wanted
from bloomery.core.store import ANNOTATED, Store
from bloomery.methods.edit.normalize import Normalize
from bloomery.methods.select.random import Random
from bloomery.methods.signal.length import Length


def work_in(store: Store, name: str) -> Path:
    (store.work / name).mkdir(exist_ok=True)
    return store.work / name


def write(one: Annotation, text: str = "numbers") -> None:
    (one.folder / "values").write_text(text)
    (one.folder / "chunk").write_text("left over")
    one.finish(["values"], {"rows": 3})


def made(store: Store, name: str = "length", **covers: object) -> Annotation:
    one = wanted(store, name, {"of": "x", **covers})
    with held(store, work_in(store, "step-1"), [one], print):
        if one.card is None:
            write(one)
    return one


def test_what_is_whole_is_found_and_other_knobs_are_not(store):
    first = made(store)
    assert sorted(path.name for path in first.folder.iterdir()) == ["card.json", "values"] and first.facts == {"rows": 3}
    again, other = wanted(store, "length", {"of": "x"}), wanted(store, "length", {"of": "y"})
    with held(store, work_in(store, "step-2"), [again, other, again], print):
        assert again.card == first.card and other.card is None and other.folder.is_dir() and other.folder != again.folder
    assert json.loads((store.work / "step-2" / ANNOTATED).read_text()) == sorted({again.folder.name, other.folder.name})


def test_a_damaged_one_is_made_again(store):
    one, said = made(store), []
    (one.folder / "values").write_text("numbars")
    again = wanted(store, "length", {"of": "x"})
    with held(store, work_in(store, "step-1"), [again], said.append):
        assert again.card is None and again.folder.is_dir() and not list(again.folder.iterdir())
        write(again)
    assert "length-" in said[0] and "values is not what its card says" in said[0]
    (again.folder / "card.json").write_text("{")
    unreadable = wanted(store, "length", {"of": "x"})
    with held(store, work_in(store, "step-1"), [unreadable], print):
        assert unreadable.card is None


def test_one_that_another_is_making_is_waited_for_and_then_used(store):
    first, second = wanted(store, "length", {}), wanted(store, "length", {})
    said: list[str] = []
    found: list[dict] = []

    def other() -> None:
        with held(store, work_in(store, "step-2"), [second], said.append):
            found.append(second.facts)

    with held(store, work_in(store, "step-1"), [first], print):
        thread = threading.Thread(target=other)
        thread.start()
        while not said:
            pass
        assert "waiting for length-" in said[0] and "process " in said[0]
        write(first)
        thread.join(20)  # what is finished is open to readers, though the first step goes on
        assert found == [{"rows": 3}]


def test_a_seed_counts_only_where_a_method_draws():
    assert not lineage.draws(Normalize()) and not lineage.draws(Length()) and lineage.draws(Random())
    assert lineage.draws(Holder(Normalize())) is False and lineage.draws(Holder((Normalize(), Random()))) is True
    sources = lineage.code(["bloomery.data.measured"], [Holder(Length())])["sources"]
    assert "bloomery.methods.signal.length" in sources and "bloomery.data.measured" in sources
    assert "bloomery.data.minhash" not in sources and "bloomery.stages.curate" not in sources


@dataclass(frozen=True)
class Holder:
    """A method with methods inside."""

    inner: object


def hold(root: str, ready: multiprocessing.Queue, end: multiprocessing.Event) -> None:
    store = Store(root)
    with held(store, work_in(store, "step-1"), [wanted(store, "length", {"of": "x"})], print):
        ready.put(1)
        end.wait(20)


def test_gc_keeps_what_artifacts_and_unfinished_steps_use_and_what_is_read(store):
    kept, unfinished, loose = (made(store, name) for name in ("kept", "unfinished", "loose"))
    folder = store.artifacts / "curate-1"
    folder.mkdir()
    card = {"address": "1", "stage": "curate", "kind": "corpus", "step": "c", "recipe": "r", "made": "", "knobs": {}, "inputs": {}}
    (folder / "card.json").write_text(json.dumps({**card, "files": {}, "annotations": [kept.folder.name]}))
    (work_in(store, "curate-2") / ANNOTATED).write_text(json.dumps([unfinished.folder.name]))
    store.record_run("r", {}, {"c": "curate-1", "d": "curate-2"})
    assert [name for name, _ in store.collect(dry=True)] == ["work/step-1", f"annotations/{loose.folder.name}"]
    made(store)
    context = multiprocessing.get_context("fork")
    ready, end = context.Queue(), context.Event()
    process = context.Process(target=hold, args=(str(store.root), ready, end))
    process.start()
    ready.get(timeout=20)
    assert [name for name, _ in store.collect()] == ["work/step-1", f"annotations/{loose.folder.name}"]
    end.set()
    process.join()
    assert [name.partition("-")[0] for name, _ in store.collect()] == ["annotations/length"]
    assert sorted(path.name for path in store.annotations.iterdir() if path.is_dir()) == sorted([kept.folder.name, unfinished.folder.name])
