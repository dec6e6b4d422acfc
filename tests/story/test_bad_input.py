"""Bad input, as a user meets it on the command line: one sentence, the right exit code, nothing half-published."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bloomery.cli.main import guarded

WORDS = [" ".join(f"word{(i * j) % 97} = {i}" for j in range(60)) for i in range(1, 60)]


def write(folder: Path, data: str | bytes | None, name: str = "data.jsonl", **curate) -> Path:
    """A two-step recipe over one data file."""
    if data is not None:
        (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)
    steps = {
        "corpus": {"stage": "curate", "sources": [str(folder / name)], "signals": ["length"], "heldout": 0.2, **curate},
        "tokens": {"stage": "tokenize", "corpus": "$corpus", "vocab": 300},
    }
    (folder / "r.yaml").write_text(yaml.safe_dump({"name": "bad", "steps": steps}))
    return folder / "r.yaml"


def good(count: int = 59) -> str:
    return "".join(json.dumps({"text": text, "package": f"p{i % 7}"}) + "\n" for i, text in enumerate(WORDS[:count]))


def attempt(capsys, recipe: Path, *more: str) -> tuple[int, str]:
    """Exit code and the last line of standard error; the store must hold no half-made artifact."""
    store = recipe.parent / "store"
    code = guarded(["run", str(recipe), "--store", str(store), *more])
    err = capsys.readouterr().err
    assert "Traceback" not in err
    for folder in (store / "artifacts").glob("*"):
        assert (folder / "card.json").exists()
    return code, err.strip().splitlines()[-1]


def test_the_good_case(tmp_path, capsys):
    assert guarded(["run", str(write(tmp_path, good())), "--store", str(tmp_path / "store"), "--quiet"]) == 0


BEFORE = {  # found before any work: exit code 2
    "unknown stage": (["--set", "corpus.stage=curat"], "no stage named 'curat'; did you mean curate"),
    "unknown method": (["--set", "corpus.signals=[lenght]"], "no signal method named 'lenght'; did you mean length"),
    "unknown knob": (["--set", "tokens.vocabulary=3"], "tokenize has no knob 'vocabulary'; did you mean vocab"),
    "unknown reference": (["--set", "tokens.corpus=$corpse"], "no step '$corpse'; did you mean corpus"),
    "circle": (["--set", "tokens.corpus=$tokens"], "makes a tokens"),
    "keep is no expression": (["--set", "corpus.keep=length.words >="], "keep"),
    "keep calls something": (["--set", "corpus.keep=__import__('os').system('true')"], "keep"),
    "keep names nothing known": (["--set", "corpus.keep=length.wrods > 3"], "length.words"),
    "unknown column": (["--set", "corpus.keep=length.words > 3 and lines.longest < 9"], "lines.longest"),
    "a number out of range": (["--set", "corpus.near=7"], "near must be"),
    "no such recipe": (None, "there is no such recipe"),
}


@pytest.mark.parametrize("case", BEFORE)
def test_found_before_any_work(tmp_path, capsys, case):
    change, said = BEFORE[case]
    recipe = write(tmp_path, good())
    code, line = attempt(capsys, tmp_path / "none.yaml" if change is None else recipe, *(change or []))
    assert code == 2 and said in line
    assert not list((tmp_path / "store").glob("work/*/")) and not list((tmp_path / "store").glob("artifacts/*"))


FILES = {
    "missing": (None, "data.jsonl"),
    "empty": ("", "empty"),
    "latin-1": ('{"text": "caf\u00e9"}\n'.encode("latin-1") * 9, "UTF-8"),
    "utf-16": (good(3).encode("utf-16"), "data.jsonl"),
    "binary junk": (bytes(range(256)) * 40, "data.jsonl"),
    "no text column": ('{"body": "x"}\n' * 9, "text"),
}


@pytest.mark.parametrize("case", FILES)
def test_unreadable_files_are_found_before_any_work(tmp_path, capsys, case):
    data, said = FILES[case]
    code, line = attempt(capsys, write(tmp_path, data))
    assert code == 2 and said in line and "data.jsonl" in line


def test_single_bad_lines_are_quarantined_with_their_place(tmp_path, capsys):
    lines = good().splitlines()
    lines[20:20] = ["{not json", '{"text": "' + "x" * 3_000_000 + '"}', '{"text": 3}']
    recipe = write(tmp_path, "\n".join(lines) + "\n", max_document="1MB")
    assert guarded(["run", str(recipe), "--store", str(tmp_path / "store"), "--quiet"]) == 0
    (corpus,) = (tmp_path / "store" / "artifacts").glob("curate-*")
    funnel = json.loads((corpus / "funnel.json").read_text())
    dropped = {step["reason"]: step["documents"] for step in funnel["steps"] if step["documents"]}
    assert sum(dropped.values()) >= 3
    assert funnel["in"]["documents"] == sum(dropped.values()) + sum(part["documents"] for part in funnel["out"].values())


def test_a_50_megabyte_line_is_dropped_with_a_reason(tmp_path, capsys):
    recipe = write(tmp_path, good() + json.dumps({"text": "y" * 50_000_000}) + "\n")
    assert guarded(["run", str(recipe), "--store", str(tmp_path / "store"), "--quiet"]) == 0
    (corpus,) = (tmp_path / "store" / "artifacts").glob("curate-*")
    assert [
        step for step in json.loads((corpus / "funnel.json").read_text())["steps"] if step["bytes"] >= 50_000_000 and step["documents"] == 1
    ]


def test_no_documents_left_names_the_clause(tmp_path, capsys):
    code, line = attempt(capsys, write(tmp_path, good()), "--set", "corpus.keep=length.words > 5 and length.words > 1e9")
    assert code == 1 and "no documents are left" in line and "1000000000" in line.replace("1e9", "1000000000")


def test_a_vocabulary_larger_than_the_data_allows(tmp_path, capsys):
    code, line = attempt(capsys, write(tmp_path, good()), "--set", "tokens.vocab=60000")
    assert code == 1 and "steps.tokens" in line and "60000" in line.replace(",", "")


def test_a_full_disk(tmp_path):
    """A limit on the size of files stands in for a full disk: the same error path, without a disk to fill."""
    recipe = write(tmp_path, good(), keep="length.words >= 0")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)); "
        "from bloomery.cli.main import guarded; sys.exit(guarded(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", str(recipe), "--store", str(tmp_path / "store")], capture_output=True, text=True
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "is full" in done.stderr.splitlines()[-1]
    assert guarded(["run", str(recipe), "--store", str(tmp_path / "store"), "--quiet"]) == 0


def test_a_second_process_on_the_same_step(tmp_path, capsys):
    from bloomery.core import recipe as recipes
    from bloomery.core.store import Store
    from bloomery.core.walk import plan

    recipe = write(tmp_path, good())
    opened = Store(tmp_path / "store")
    first = plan(recipes.read(recipe), opened)[0]
    with opened.making("curate", first.address):
        code, line = attempt(capsys, recipe)
        assert code == 2 and f"is being made by process {os.getpid()}" in line


@pytest.mark.parametrize("damage", ["cut", "gone", "card"])
def test_a_store_damaged_by_hand(tmp_path, capsys, damage):
    recipe = write(tmp_path, good())
    assert guarded(["run", str(recipe), "--store", str(tmp_path / "store"), "--quiet"]) == 0
    (corpus,) = (tmp_path / "store" / "artifacts").glob("curate-*")
    victim = corpus / ("card.json" if damage == "card" else "train.parquet")
    victim.unlink() if damage == "gone" else victim.write_bytes(victim.read_bytes()[:40])
    code, line = attempt(capsys, recipe)
    assert code == 2 and f"bloomery rm {corpus.name}" in line
    assert guarded(["rm", corpus.name, "--store", str(tmp_path / "store")]) == 0
    assert guarded(["run", str(recipe), "--store", str(tmp_path / "store"), "--quiet"]) == 0


@pytest.mark.parametrize(
    "arguments",
    [["chat", "nothere"], ["show", "nothere"], ["check", "nothere"], ["rm", "nothere"], ["nosuchcommand"], ["run"], ["methods", "adamx"]],
)
def test_commands_refuse_what_is_not_there(tmp_path, capsys, arguments, monkeypatch):
    monkeypatch.setenv("BLOOMERY_STORE", str(tmp_path / "store"))
    assert guarded(arguments) == 2
    assert "Traceback" not in capsys.readouterr().err
