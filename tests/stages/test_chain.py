"""A chain of tiny copies made by hand in a store: it holds where they are what their cards say, and fails where they are not."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.job import Forecast, Job
from bloomery.core.machine import Machine
from bloomery.core.store import Artifact, Store
from bloomery.data.tokenizer import learn
from bloomery.nn.config import Config
from bloomery.nn.hf import to_hf
from bloomery.nn.model import Transformer
from bloomery.nn.saving import load, save
from bloomery.seams import Rng
from bloomery.stages.chain import FILE, Chain, differing, hops_of, limits_of, way_of

torch.set_num_threads(1)
WORDS = ["def f(x):\n    return x + 1\n", "some words and some more words"] * 20


def put(store: Store, stage: str, step: str, inputs: dict[str, list[Artifact]], write, kind: str = "model") -> Artifact:
    """An artifact made by hand; `write(folder)` fills it."""
    out = store.work / f"by-hand-{step}"
    out.mkdir()
    write(out)
    address = hashlib.sha256(f"{stage} {step}".encode()).hexdigest()
    names = {knob: [one.address for one in given] for knob, given in inputs.items()}
    card = {"address": address, "stage": stage, "kind": kind, "step": step, "recipe": "hand", "seed": 0, "knobs": {}, "inputs": names}
    return store.publish(stage, out, {**card, "made": f"2024-01-01T00:00:{len(list(store.artifacts.iterdir())):02}", "facts": {}})


def changed(source: Artifact, amount: float, words: list[str] | None = None):
    """Writes a copy of a model whose weights are moved by `amount`, with another tokenizer where `words` are given."""

    def write(folder: Path) -> None:
        net = load(source.folder)
        with torch.no_grad():
            net.blocks[0].mlp.down.weight.mul_(1 + amount)
        save(net, folder)
        if words:
            learn(words, 270).save(folder)
        else:
            for name in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copyfile(source.path(name), folder / name)

    return write


def pretrained(folder: Path) -> None:
    learn(WORDS, 270).save(folder)
    net = Transformer(Config(vocab=270, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=128), Rng((7,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(5.0) if p.dim() > 1 else None
    save(net, folder)


@pytest.fixture
def way(store) -> list[Artifact]:
    """Pretrained, tuned, merged and exported copies."""
    lm = put(store, "pretrain", "lm", {}, pretrained)
    chat = put(store, "tune", "chat", {"model": [lm]}, changed(lm, 0.3))
    merged = put(store, "merge", "merged", {"model": [chat]}, changed(chat, 0.0))
    folder = put(
        store, "export", "folder", {"model": [merged]}, lambda out: to_hf(load(merged.folder), merged.folder, out, torch.float32), "folder"
    )
    return [lm, chat, merged, folder]


def job(store: Store, out: Path) -> Job:
    out.mkdir(exist_ok=True)
    return Job(out, out, Rng((0, "chain")), 0, log=None, executor=None, store=store, recipe={}, signals=None)


def chain(*of: Artifact, **knobs) -> Chain:
    return Chain(tuple(of), **{"server": False, "count": 3, "length": 40, **knobs})


def test_every_hop_of_a_sound_way_holds(store, way, tmp_path):
    at, stage = job(store, tmp_path / "out"), chain(*way)
    stage.run(at)
    stage.check(at.out, at)
    at.demand()
    told = json.loads((at.out / FILE).read_text())
    assert told["hops"] == at.facts["hops"] and told["text"] == "text of the standard library"
    tune, merge, export = told["hops"]
    assert [(hop["from"], hop["to"], hop["kind"]) for hop in told["hops"]] == [
        ("lm", "chat", "tune"), ("chat", "merged", "merge"), ("merged", "folder", "export huggingface"),
    ]  # fmt: skip
    assert tune["kl"] > 1e-4 and "kl" not in tune["limits"] and "meant to change" in tune["note"] and tune["ok"]
    assert merge["kl"] == 0 and merge["agreement"] == 1 and merge["greedy_equal"] == merge["greedy_total"] == 3
    assert export["kl"] < 1e-9 and 0 < export["largest"] < 1e-4 and export["tokens"] == 3 * 39
    assert all(hop["token_ids_differ"] == 0 and hop["texts"] >= 11 for hop in told["hops"])
    assert at.checks and all(one["ok"] for one in at.checks)


def test_a_later_check_measures_again(store, way, tmp_path):
    at, stage = job(store, tmp_path / "out"), chain(*way[:3])
    stage.run(at)
    later = job(store, tmp_path / "out")
    stage.check(at.out, later)
    later.demand()
    assert later.checks[-1]["name"] == f"hops that differ from those in {FILE}"
    told = json.loads((at.out / FILE).read_text())
    told["hops"][0]["kl"] *= 2
    (at.out / FILE).write_text(json.dumps(told))
    later = job(store, tmp_path / "out")
    stage.check(at.out, later)
    with pytest.raises(CheckFailed, match="hops that differ"):
        later.demand()
    assert differing(told["hops"], told["hops"][:1]) == 2


@pytest.mark.parametrize(("amount", "words", "why"), [(0.02, None, "KL divergence"), (0.0, ["quite other text"] * 40, "other token ids")])
def test_a_copy_that_is_none_fails(store, way, tmp_path, amount, words, why):
    lm = way[0]
    if words:
        words = [*words, "abc abd abe acd ace ade bcd bce bde cde" * 3]
    bad = put(store, "merge", "bad", {"model": [lm]}, changed(lm, amount, words))
    at, stage = job(store, tmp_path / "out"), chain(lm, bad)
    stage.run(at)
    stage.check(at.out, at)
    with pytest.raises(CheckFailed, match=f"lm to bad: .*{why}"):
        at.demand()
    (hop,) = at.facts["hops"]
    assert not hop["ok"]
    assert hop["example"] if words else hop["token_ids_differ"] == 0


def test_the_server_is_asked_over_http(store, way, tmp_path):
    at, stage = job(store, tmp_path / "out"), chain(*way[:3], server=True)
    stage.run(at)
    stage.check(at.out, at)
    at.demand()
    hop = at.facts["hops"][-1]
    assert (hop["from"], hop["to"], hop["kind"]) == ("merged", "server", "serve")
    assert hop["token_ids_differ"] == 0 and hop["agreement"] == 1 and hop["largest"] < 1e-5 and abs(hop["kl"]) < 1e-6
    assert hop["greedy_equal"] == hop["greedy_total"] == 5 and "lower bound" in hop["note"]


def test_the_source_is_found_in_the_lineage_not_by_the_order(store, way):
    lm, chat, merged, folder = way
    assert [(hop.source.name, hop.copy.name) for hop in hops_of((lm, chat, folder, merged), store, False)] == [
        (lm.name, chat.name), (chat.name, folder.name), (chat.name, merged.name),
    ]  # fmt: skip
    stranger = put(store, "pretrain", "stranger", {}, pretrained)
    assert way_of(stranger, way, store) == []
    (_, last) = hops_of((lm, chat, stranger), store, False)
    assert (last.source, last.kind) == (chat, "copy")
    better = put(store, "pretrain", "better", {"start": [chat]}, changed(chat, 0.1))
    (_, last) = hops_of((lm, chat, better), store, False)
    assert (last.source, last.kind) == (chat, "pretrain") and "kl" not in last.limits
    assert hops_of((lm, chat), store, True)[-1].source == chat


def test_a_hop_over_copies_that_are_not_listed_has_the_room_of_all_of_them(store, way):
    lm, chat, merged, folder = way
    assert [one.name for one in way_of(folder, (lm, chat), store)] == [merged.name, chat.name]
    (over,) = hops_of((chat, folder), store, False)
    (direct,) = hops_of((merged, folder), store, False)
    assert over.limits["kl"] == pytest.approx(2 * direct.limits["kl"]) and "largest" not in over.limits and "largest" in direct.limits
    assert over.limits["agreement"] == pytest.approx(0.998) and over.note == "by way of merged, which is not listed" and not direct.note
    (trained,) = hops_of((lm, folder), store, False)
    assert set(trained.limits) == {"token_ids_differ", "greedy_odd"} and "by way of merged, chat" in trained.note


def test_a_gguf_file_is_run_by_llama_cpp_and_compared_with_what_it_was_made_from(store, way, tmp_path):
    pytest.importorskip("llama_cpp")
    from bloomery.nn import gguf
    from bloomery.nn.gguf_words import read_words

    def write(out: Path) -> None:
        net = load(way[2].folder)
        entries = gguf.contents(net, {}, "F16", "F16")
        gguf.write(out / "model.gguf", net.cfg, entries, read_words(way[2].folder, 270), "F16", "merged")

    file = put(store, "export", "file", {"model": [way[2]]}, write, "folder")
    at, stage = job(store, tmp_path / "out"), chain(*way, file)
    stage.run(at)
    stage.check(at.out, at)
    at.demand()
    hop = at.facts["hops"][-1]
    assert (hop["from"], hop["to"], hop["kind"]) == ("merged", "file", "export gguf")
    assert 0 < hop["kl"] < 1e-5 and hop["texts"] == at.facts["hops"][1]["texts"] and hop["limits"]["agreement"] == 0.99


def test_limits_follow_from_what_a_copy_says_of_itself(way, tmp_path):
    (tmp_path / "quantization.json").write_text(json.dumps({"linears": {"a": {"bits": 4}, "b": {"bits": 4}}}))

    def told(kind, **card):
        return limits_of(kind, Artifact("0" * 64, tmp_path, {"facts": {}, **card}))[0]

    assert told("compress")["kl"] == pytest.approx(25 / 256, rel=1e-2)
    for about, bits in (
        ({"form": "sparse", "zeros": 0.5}, 2), ({"form": "stack", "bits": 11.1, "blocks": 1}, 1), ({"bits": 8, "inputs": {"bits": 4}}, 4),
        ({"bits": 4, "inputs": "fp8"}, 4),
    ):  # fmt: skip
        (tmp_path / "quantization.json").write_text(json.dumps({"linears": {"a": about}}))
        assert told("compress")["kl"] == pytest.approx(25 / 4**bits, rel=1e-2)
    assert "kl" not in told("tune") | told("pretrain") and told("merge")["kl"] == 1e-6 and told("serve")["largest"] == 1e-3
    assert told("export huggingface")["kl"] < told("export huggingface", knobs={"dtype": "bfloat16"})["kl"]
    sure = told("export gguf", facts={"type": "Q4_0", "codes": "lossless: codes kept in all 42 quantized matrices"})
    again = told("export gguf", facts={"type": "Q4_0", "codes": "quantized from dense weights"})
    assert sure["kl"] == 1e-3 < again["kl"] and sure["agreement"] == 0.98
    assert told("export gguf", facts={"type": "F32"})["kl"] < told("export gguf", facts={"type": "F16"})["kl"] < sure["kl"]
    assert all(told(kind)["token_ids_differ"] == 0 for kind in ("tune", "merge", "compress", "serve", "copy"))


def test_what_cannot_be_compared_is_said(store, way, tmp_path):
    corpus = put(store, "curate", "corpus", {}, lambda out: (out / "funnel.json").write_text("{}"), "corpus")
    with pytest.raises(BadInput, match="holds no model"):
        chain(way[0], corpus).measured(0, store)
    with pytest.raises(BadInput, match="one copy alone"):
        chain(way[0]).measured(0, store)
    with pytest.raises(BadInput, match="can be served"):
        chain(way[3], server=True).measured(0, store)
    with pytest.raises(ValueError, match="length at least 2"):
        chain(*way, length=1)


def test_forecast_grows_with_the_model():
    machine = Machine("test", 2, 8 << 30, False, {"float32": 1e11})
    small, large = (
        Chain(("a", "b")).forecast({"of": Forecast(facts={"parameters": n})}, machine) for n in (1e6, 1e9)
    )  # fmt: skip
    assert 0 < small.seconds < large.seconds and small.memory < large.memory
