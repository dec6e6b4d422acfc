"""`bloomery check --chain` over a store with tiny copies made by hand."""

from __future__ import annotations

import hashlib
import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from bloomery.cli.main import guarded
from bloomery.data.shards import write_shards
from bloomery.data.tokenizer import Tokenizer, learn
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import load, save
from bloomery.seams import Rng

torch.set_num_threads(1)
WORDS = ["def f(x):\n    return x + 1\n", "some words and some more words"] * 20


def put(store, stage, step, inputs, write, kind="model"):
    """An artifact made by hand; `write(folder)` fills it."""
    out = store.work / f"by-hand-{step}"
    out.mkdir()
    write(out)
    address = hashlib.sha256(f"{stage} {step}".encode()).hexdigest()
    names = {knob: [one.address for one in given] for knob, given in inputs.items()}
    card = {"address": address, "stage": stage, "kind": kind, "step": step, "recipe": "hand", "seed": 0, "knobs": {}, "inputs": names}
    return store.publish(stage, out, {**card, "made": f"2024-01-01T00:00:{len(list(store.artifacts.iterdir())):02}", "facts": {}})


def tokens(folder):
    learn(WORDS, 270).save(folder)
    ids = Tokenizer.load(folder).encode("some words and def f(x):\n    return x + 1\n" * 3)
    documents = [({"id": str(i), "package": "p", "path": "q", "bytes": 9}, np.array([1, *ids[i:], 2])) for i in range(6)]
    for part in ("train", "heldout"):
        write_shards(folder / part, documents, 270)


def model(of, amount=None):
    """Writes a model with the tokenizer of `of`: a new one, or that of `of` with some weights moved by `amount`."""

    def write(folder):
        net = Transformer(Config(vocab=270, width=32, layers=1, heads=4, kv_heads=2, ffn=48, context=48), Rng((7,)))
        if amount is not None:
            net = load(of.folder)
            with torch.no_grad():
                net.blocks[0].mlp.down.weight.add_(amount * torch.randn(32, 48, generator=torch.Generator().manual_seed(0)))
        save(net, folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(of.path(name), folder / name)

    return write


@pytest.fixture
def way(store, monkeypatch):
    """tokens, lm, chat, merged and a report about them."""
    monkeypatch.setenv("BLOOMERY_STORE", str(store.root))
    text = put(store, "tokenize", "tokens", {}, tokens, "tokens")
    lm = put(store, "pretrain", "lm", {"data": [text]}, model(text))
    chat = put(store, "tune", "chat", {"model": [lm]}, model(lm, 0.3))
    merged = put(store, "merge", "merged", {"model": [chat]}, model(chat, 0.0))
    put(store, "report", "page", {"of": [merged]}, lambda out: (out / "report.html").write_text("<p>"), "report")
    return {"lm": lm, "chat": chat, "merged": merged}


def hops(capsys, *arguments):
    capsys.readouterr()
    code = guarded(["check", "--chain", "--no-server", "--json", *arguments])
    return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("name", ["merge-", "report-", "pretrain-"], ids=["the last copy", "a report", "the first model"])
def test_the_whole_way_is_found_from_any_end(way, store, capsys, name):
    before = sorted(path.name for path in store.root.rglob("*"))
    code, rows = hops(capsys, name)
    assert code == 0 and all(row["ok"] for row in rows)
    assert [(row["from"], row["to"]) for row in rows] == [("lm", "chat"), ("chat", "merged")]
    assert rows[0]["tokens"] > 100 and rows[0]["kl"] > 0 and rows[1]["kl"] == 0
    assert sorted(path.name for path in store.root.rglob("*")) == before, "nothing is stored"


def test_the_table_names_the_text_and_the_figures(way, capsys):
    assert guarded(["check", "--chain", "--no-server", "merge-"]) == 0
    out = capsys.readouterr().out
    assert "lm to chat" in out and "chat to merged" in out and "100.00%" in out and "held-out tokens of tokens" in out


def test_a_damaged_copy_and_a_changed_file_fail(way, store, capsys):
    put(store, "merge", "worse", {"model": [way["chat"]]}, model(way["chat"], 0.02))
    code, rows = hops(capsys, hashlib.sha256(b"merge worse").hexdigest()[:12])
    assert code == 1 and [row["ok"] for row in rows] == [True, False]
    assert guarded(["check", "--chain", "--no-server", hashlib.sha256(b"merge worse").hexdigest()[:12]]) == 1
    told = capsys.readouterr()
    assert "FAILS" in told.out and "chat to worse: KL divergence" in told.err
    file = way["lm"].path("model.json")
    file.write_text(file.read_text().replace('"rope_base": 10000.0', '"rope_base": 20000.0'))
    assert guarded(["check", "--chain", "--no-server", way["merged"].name]) == 1
    assert "files that differ from their hash" in capsys.readouterr().err


def test_a_store_without_a_way(way, store, capsys):
    assert guarded(["check", "--chain", "tokenize-"]) == 2
    assert "no model is on its way" in capsys.readouterr().err
    lonely = put(store, "pretrain", "lonely", {}, model(way["lm"], 0.1))
    assert guarded(["check", "--chain", "--no-server", lonely.name]) == 2
    assert "no copy of it" in capsys.readouterr().err


def test_a_chain_artifact_is_made_by_a_recipe_and_checked_again(way, store, tmp_path, capsys):
    of = [f"@{one.name}" for one in way.values()]
    recipe = tmp_path / "chain.yaml"
    recipe.write_text(yaml.safe_dump({"steps": {"parity": {"stage": "chain", "of": of, "server": False, "count": 2, "length": 40}}}))
    assert guarded(["run", str(recipe), "--quiet"]) == 0
    made = store.get("parity")
    assert [hop["kind"] for hop in made.facts["hops"]] == ["tune", "merge"] and made.kind == "chain"
    assert guarded(["check", "parity"]) == 0
    assert "hops that differ from those in chain.json" in capsys.readouterr().out
    code, rows = hops(capsys, "parity")
    assert code == 0 and [row["kl"] for row in rows] == pytest.approx([hop["kl"] for hop in made.facts["hops"]], rel=1e-6)
