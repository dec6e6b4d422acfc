"""The store: atomic, damaged ones named, lineage never broken, two processes safe."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from bloomery.core import index
from bloomery.core.errors import BadInput
from bloomery.core.store import TAUGHT, Store


def put(store: Store, name: str, inputs: dict | None = None, **card: list[str]):
    """A small artifact whose address begins with `name`."""
    address = (name * 64)[:64]
    with store.making("seed", address) as work:
        out = work / "out"
        (out / "deep").mkdir(parents=True)
        (out / "deep" / "number").write_text(name)
        made = f"2026-01-01T00:00:0{len(list(store.artifacts.iterdir()))}"
        card = {"address": address, "stage": "seed", "kind": "corpus", "step": name, "recipe": "r", "made": made,
                "inputs": inputs or {}, "knobs": {}, "facts": {}, "checks": [], "cost": {"seconds": 1.5, "disk": 7}, **card}  # fmt: skip
        made = store.publish("seed", out, card)
        store.leave("seed", address)
    return made


def test_publish_then_find(store):
    made = put(store, "a")
    assert store.find("seed", made.address).path("deep", "number").read_text() == "a"
    assert store.find("seed", "b" * 64) is None
    assert not list(store.work.iterdir())


def test_get_by_name_address_and_step(store):
    made = put(store, "a")
    put(store, "b")
    store.record_run("r", {}, {"first": made.name})
    for name in (made.name, made.address, "aaaa", "first", "seed-a"):
        assert store.get(name).name == made.name
    with pytest.raises(BadInput, match="may be any of"):
        store.get("seed")
    with pytest.raises(BadInput, match="no artifact or step 'frist'; did you mean first"):
        store.get("frist")


@pytest.mark.parametrize("damage", ["card gone", "card junk", "card short", "file gone", "file short", "renamed"])
def test_damage_by_hand_is_named_with_its_mend(store, damage):
    made = put(store, "a")
    if damage == "card gone":
        made.path("card.json").unlink()
    elif damage == "card junk":
        made.path("card.json").write_text("{")
    elif damage == "card short":
        made.path("card.json").write_text(json.dumps({"address": made.address, "files": {}}))
    elif damage == "file gone":
        made.path("deep", "number").unlink()
    elif damage == "file short":
        made.path("deep", "number").write_text("")
    else:
        made.folder.rename(made.folder.with_name("seed-" + "b" * 16))
    name, address = ("seed-" + "b" * 16, "b" * 64) if damage == "renamed" else (made.name, made.address)
    with pytest.raises(BadInput, match=f"bloomery rm {name}"):
        store.find("seed", address)
    store.remove(name)
    assert store.find("seed", address) is None


def test_changed_content_is_found_by_verify(store):
    made = put(store, "a")
    assert store.verify(made) == []
    made.path("deep", "number").write_text("z")
    assert store.verify(made) == ["deep/number"]


def test_gc_keeps_the_lineage_of_recorded_runs(store):
    a = put(store, "a")
    b = put(store, "b", {"of": [a.address]})
    c = put(store, "c")
    store.record_run("r", {}, {"b": b.name})
    assert [name for name, _ in store.collect(dry=True)] == [f"artifacts/{c.name}"]
    assert store.find("seed", c.address)
    store.collect()
    assert store.find("seed", c.address) is None
    assert store.find("seed", a.address) and store.find("seed", b.address)


def test_gc_leaves_work_that_another_process_holds(store):
    with store.making("seed", "d" * 64) as work:
        (work / "checkpoint").write_text("x")
        assert store.collect() == []
        assert (work / "checkpoint").exists()
    assert [name for name, _ in store.collect()] == ["work/seed-" + "d" * 16]


def test_gc_keeps_what_a_damaged_artifact_came_from(store):
    a = put(store, "a")
    b = put(store, "b", {"of": [a.address]})
    store.record_run("r", {}, {"b": b.name})
    b.path("deep", "number").write_text("longer")
    assert store.collect() == []
    b.path("card.json").write_text("{}")
    with pytest.raises(BadInput, match=f"bloomery rm {b.name}"):
        store.collect()
    assert store.find("seed", a.address)


def test_gc_keeps_what_teachers_said_as_long_as_a_step_uses_it(store):
    for name in ("made", "going", "waiting", "superseded", "alone"):
        (store.teachers / name).mkdir()
        (store.teachers / name / "1.rows").write_text(name)
    for digit, name in (("a", "superseded"), ("b", "waiting")):
        with store.making("seed", digit * 64) as work:
            (work / TAUGHT).write_text(json.dumps([name]))
    done = put(store, "c", teachers=["made"])
    store.record_run("r", {}, {"b": "seed-" + "b" * 16, "c": done.name})
    with store.making("seed", "d" * 64) as work:
        (work / TAUGHT).write_text(json.dumps(["going"]))
        wanted = ["work/seed-" + "a" * 16, "teachers/alone", "teachers/superseded"]
        assert [name for name, _ in store.collect(dry=True)] == [name for name, _ in store.collect()] == wanted
    assert {folder.name for folder in store.teachers.iterdir()} == {"made", "going", "waiting"}
    store.record_run("r", {}, {})
    store.collect()
    assert not list(store.teachers.iterdir())


def test_gc_keeps_what_a_recorded_run_is_still_to_make(store):
    store.record_run("r", {}, {"a": "seed-" + "a" * 16, "b": "seed-" + "b" * 16})
    put(store, "a")
    with store.making("seed", "b" * 64) as work:
        (work / "checkpoint").write_text("x")
    assert store.collect() == []


def test_readers_make_no_store(tmp_path):
    with pytest.raises(BadInput, match="no store here"):
        Store(tmp_path / "typo", make=False)
    assert not (tmp_path / "typo").exists()


def test_rm_refuses_what_others_came_from(store):
    a = put(store, "a")
    b = put(store, "b", {"of": [a.address]})
    with pytest.raises(BadInput, match=f"{b.name} came from"):
        store.remove(a.name)
    store.remove(b.name)
    store.remove(a.name)
    assert not list(store.artifacts.iterdir())


@pytest.mark.parametrize("name", ["../store", "", "nothere", "/etc"])
def test_rm_removes_only_artifacts(store, name):
    with pytest.raises(BadInput):
        store.remove(name)


def test_a_second_process_on_the_same_artifact_is_told_so(store):
    code = f"""
        from bloomery.core.store import Store
        from bloomery.core.errors import BadInput
        try:
            with Store({str(store.root)!r}).making("seed", "e" * 64): print("made")
        except BadInput as wrong: print(wrong)
    """
    with store.making("seed", "e" * 64):
        second = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert "is being made by process" in second.stdout
    again = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert again.stdout == "made\n"


def test_other_folders_are_not_taken_for_a_store(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(BadInput, match="not a bloomery store"):
        Store(tmp_path / "mine")
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="must be a folder"):
        Store(tmp_path / "file")


def test_the_index_follows_the_folders_and_is_rebuilt(store):
    a = put(store, "a")
    b = put(store, "b")
    assert [row.name for row in index.rows(store)] == [a.name, b.name]
    store.remove(a.name)
    assert [row.name for row in index.rows(store)] == [b.name]
    (store.root / "index.sqlite").write_bytes(b"not a database" * 100)
    assert [row.name for row in index.rows(store)] == [b.name]
    b.path("card.json").write_text("{")
    (store.root / "index.sqlite").unlink()
    assert "damaged" in index.rows(store)[0].damaged


def test_a_damaged_run_record_is_named(store):
    for junk in ("{", "[]", '{"made": 3}', "{}"):
        (store.runs / "r.json").write_text(junk)
        with pytest.raises(BadInput, match=r"r\.json is damaged"):
            store.kept()


def test_the_card_lists_every_file_with_its_hash(store):
    made = put(store, "a")
    card = json.loads(made.path("card.json").read_text())
    assert card["files"] == {"deep/number": [1, "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"]}
