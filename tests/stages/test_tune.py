"""The tune stage: what is trained, what is measured, what is refused, and the same result after a stop."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_pretrain import methods_of, renumbered

from bloomery.core import catalog
from bloomery.core.errors import BadInput, CheckFailed, Interrupted
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.rng import torch_rng
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact, Store
from bloomery.data.chat.read import Conversation, write_chats
from bloomery.data.tokenizer import learn
from bloomery.infer.model import load
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Rng
from bloomery.stages import _forecast, _mesh, _training
from bloomery.stages.tune import Tune
from bloomery.train import timing

ROOT = Path(__file__).parents[2]
SMALL = {"epochs": 6.0, "batch": 256, "context": 64, "rate": 2e-2, "compile": "off", "precision": "float32", "checkpoint_steps": 1}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_training, "threads", lambda: 1)


def said(i: int) -> tuple[tuple[str, str], ...]:
    """A conversation with a rule that can be learnt: the answer names the colour that the question's letter stands for."""
    letter, colour = (("a", "red"), ("b", "blue"), ("c", "green"))[i % 3]
    return (("user", f"number {i * 7 % 50} letter {letter}"), ("assistant", f"the colour is {colour}"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model with random weights and a tokenizer with a template; conversations of our own, and in a file of OpenAI messages."""
    root = tmp_path_factory.mktemp("tune")
    model, chats = root / "model", root / "chats"
    model.mkdir(), chats.mkdir()
    every = [Conversation(f"c{i}", said(i), package=f"p{i % 6}", kind="colour", plain=said(i)[0][1]) for i in range(72)]
    tokenizer = learn([text for one in every for _, text in one.messages] * 4, 300)
    tokenizer.save(model)
    net = Transformer(Config(vocab=300, width=32, layers=2, heads=2, kv_heads=1, ffn=48, context=64))
    for p in net.parameters():
        if p.dim() > 1:
            p.data.normal_(0, 0.1, generator=torch_rng(Rng((3,))))
    save(net, model)
    write_chats(chats / "train.parquet", [one for one in every if one.package not in ("p4", "p5")])
    write_chats(chats / "heldout.parquet", [one for one in every if one.package in ("p4", "p5")])
    rows = [{"messages": [{"role": role, "content": text} for role, text in one.messages]} for one in every]
    (root / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"model": model, "chats": chats, "file": root / "talk.jsonl"}


def stage(world: dict[str, Path], data: Path | None = None, **knobs) -> Tune:
    entry = catalog.find("stage", "tune", "here")
    methods = {k.name: methods_of(k, knobs.pop(k.name, k.default)) for k in entry.knobs.values() if k.seam}
    inputs = [Artifact(str(i) * 64, path, {"kind": "", "facts": {}}) for i, path in enumerate((world["model"], data or world["chats"]))]
    return Tune(*inputs, **methods, **{**SMALL, **knobs})


def job(folder: Path, signals: Signals | None = None) -> Job:
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    log = Log(folder / "work" / "log.jsonl", quiet=True)
    return Job(folder / "out", folder / "work", Rng((0, "tune")), 0, log, None, None, {}, signals or Signals())


def made(one: Tune, folder: Path) -> Job:
    work = job(folder)
    one.run(work)
    one.check(work.out, work)
    return work


@pytest.mark.parametrize("adapter", [None, {"lora": {"rank": 4, "alpha": 16.0}}])
def test_it_learns_to_answer_and_every_check_holds(world: dict[str, Path], tmp_path: Path, adapter) -> None:
    source = {name: p.clone() for name, p in load(world["model"]).net.named_parameters()}
    work = made(stage(world, adapter=adapter, epochs=24.0 if adapter else 6.0), tmp_path)
    work.demand()
    facts = work.facts
    assert facts["answer_nats_after"] < 0.6 * facts["answer_nats_before"]
    change = facts["answer_nats_change"]
    assert change["low"] <= change["value"] <= change["high"] < 0 and change["groups"] == 2 and change["n"] == 24
    assert change["value"] == pytest.approx(facts["answer_nats_after"] - facts["answer_nats_before"])
    model = load(work.out)
    (said_now,) = model.generate([model.question(said(0)[:1])], limit=12)
    assert said_now.ended == "stop" and said_now.text.startswith("the colour is")
    base = dict(load(world["model"]).net.named_parameters())
    assert all(torch.equal(source[name], base[name]) for name in source)
    if adapter:
        assert facts["trained_parameters"] < 0.5 * facts["parameters"] and (work.out / "adapter_model.safetensors").is_file()
    else:
        assert facts["trained_parameters"] == facts["parameters"] and (work.out / "model.safetensors").is_file()


def test_only_answers_and_their_ends_are_trained(world: dict[str, Path]) -> None:
    one = stage(world)
    for row in one.preview(Rng((0, "tune")), 3):
        trained = "".join(token for token, _, weight in row if weight > 0)
        assert set(trained.split("<|eos|>")) <= {"the colour is red", "the colour is blue", "the colour is green", ""}
        assert trained.count("<|eos|>") == sum(token == "<|user|>" for token, _, _ in row) > 0


def test_conversations_from_outside_are_split_and_the_format_is_stated(world: dict[str, Path], tmp_path: Path) -> None:
    from bloomery.data.chat.read import read_chats

    work = made(stage(world, world["file"], heldout=0.25, epochs=1.0), tmp_path)
    work.demand()
    assert "messages" in work.facts["data_format"]
    counts = work.facts["conversations"]
    assert sum(counts.values()) == 72 and 8 <= counts["heldout"] <= 30
    assert len(read_chats(work.out / "heldout.parquet").conversations) == counts["heldout"]


def test_a_stopped_run_goes_on_to_the_same_weights(world: dict[str, Path], tmp_path: Path) -> None:
    whole = made(stage(world, epochs=2.0), tmp_path / "whole")
    asked = 0

    class Stops(Signals):
        @property
        def stopping(self) -> bool:
            nonlocal asked
            asked += 1
            return asked > 3

        @stopping.setter
        def stopping(self, value: bool) -> None:
            pass

    with pytest.raises(Interrupted, match="the same command goes on"):
        stage(world, epochs=2.0).run(job(tmp_path / "cut", Stops()))
    again = made(stage(world, epochs=2.0), tmp_path / "cut")
    assert again.facts["weights_sha256"] == whole.facts["weights_sha256"]
    assert again.facts["answer_nats_after"] == whole.facts["answer_nats_after"]


def test_the_same_answers_are_seen_in_any_micro_batch(world: dict[str, Path], tmp_path: Path) -> None:
    """Gradients of a step do not depend on how its rows are cut into micro-batches."""
    losses = []
    for micro in (1, 4):
        work = job(tmp_path / str(micro))
        stage(world, epochs=0.4, micro=micro).run(work)
        losses.append([json.loads(line)["loss"] for line in (work.out / "curve.jsonl").read_text().splitlines()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_long_conversations_are_dropped_or_cut_and_counted(world: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"prompt": f"letter {i}", "completion": "word " * (60 if i % 4 == 0 else 3)} for i in range(40)]
    file = tmp_path / "talk.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    work = made(stage(world, file, heldout=0.2, epochs=1.0), tmp_path / "drop")
    dropped = sum(count for reason, count in work.facts["conversations_dropped"].items() if "too long" in reason)
    assert dropped == 10 and sum(work.facts["conversations"].values()) == 30
    cut = made(stage(world, file, heldout=0.2, epochs=1.0, long="cut"), tmp_path / "cut")
    assert sum(cut.facts["conversations"].values()) == 40
    with pytest.raises(BadInput, match=r"no conversation to train on.*too long for the context"):
        stage(world, file, context=8, batch=64).run(job(tmp_path / "none"))


def test_what_cannot_be_is_refused_in_one_sentence(world: dict[str, Path], tmp_path: Path) -> None:
    for knobs, said_so in (
        ({"train_also": ("embed",)}, "train_also is for adapters"),
        ({"train_also": ("heads",), "adapter": "lora"}, "train_also may name embed, head, norms"),
        ({"epochs": 0.0}, "epochs and rate must be above 0"),
        ({"heldout": 1.0}, "heldout at least 0 and below 1"),
    ):
        with pytest.raises(ValueError, match=said_so):
            stage(world, **knobs)
    with pytest.raises(BadInput, match="compile: the backward pass runs the blocks in parts; say `compile: auto` or off"):
        stage(world, backward="streambp", compile="on").mode()
    assert stage(world, backward="streambp", compile="auto").mode()["compile"] is False
    with pytest.raises(BadInput, match="the chat template cannot be read"):
        stage(world, template=str(tmp_path / "none.jinja")).probe()
    with pytest.raises(BadInput, match="reads 64 tokens at most, not 128"):
        stage(world, context=128).run(job(tmp_path / "long"))
    with pytest.raises(BadInput, match="the head of this model is its embedding"):
        stage(world, adapter="lora", train_also=("head",)).run(job(tmp_path / "tied"))


def test_an_adapter_may_train_the_embedding_whole(world: dict[str, Path], tmp_path: Path) -> None:
    work = made(stage(world, adapter={"lora": {"rank": 2}}, train_also=("embed", "norms"), epochs=1.0), tmp_path)
    work.demand()
    base, now = (dict(load(folder).net.named_parameters()) for folder in (world["model"], work.out))
    assert not torch.equal(base["embed.weight"], now["embed.weight"])


def test_a_template_of_ones_own_is_used_and_kept(world: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "odd.jinja"
    file.write_text(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}A: {% generation %}{{ m.content }}{{ eos_token }}"
        "{% endgeneration %}{% else %}Q: {{ m.content }} {% endif %}{% endfor %}{% if add_generation_prompt %}A: {% endif %}"
    )
    work = made(stage(world, template=str(file), epochs=1.0), tmp_path)
    work.demand()
    assert work.facts["template"] == "odd.jinja"
    assert load(work.out).tokenizer.decode(load(work.out).question(said(0)[:1]), skip_special_tokens=False).startswith("<|bos|>Q: number 0")


def test_damage_is_noticed(world: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    one = stage(world, epochs=1.0)
    work = made(one, tmp_path)
    state = load_file(str(work.out / "model.safetensors"))
    state["blocks.0.mixer.out.weight"][0, 0] += 0.5
    save_file(state, str(work.out / "model.safetensors"), metadata={"format": "pt"})
    work.checks.clear()
    one.check(work.out, work)
    with pytest.raises(CheckFailed, match="weights read back that differ"):
        work.demand()


def test_figures_of_answers_are_bits_per_byte_too_and_frozen_matrices_cost_less(world: dict[str, Path], tmp_path: Path) -> None:
    from bloomery.rewrite.adapters import attach
    from bloomery.stages import _training

    work = job(tmp_path)
    stage(world, epochs=2.0).run(work)
    rows = [json.loads(line) for line in (work.out / "curve.jsonl").read_text().splitlines()]
    assert all(0 < row["bpb"] < 20 for row in rows) and 0 < work.facts["heldout_bits_per_byte"] < 20
    answers = json.loads((world["model"] / "tokenizer.json").read_text())["model"]["vocab"]
    longest = max(map(len, answers))
    assert all(row["loss"] / 0.6932 / longest < row["bpb"] <= row["loss"] / 0.6931 for row in rows)
    net = load(world["model"]).net
    whole = _training.flops(net, 64)
    assert whole == net.cfg.flops_per_token(64)
    attach(net, catalog.build_method("adapter", {"lora": {"rank": 2}}), Rng((0,)))
    thin = sum(p.numel() for p in net.parameters() if p.requires_grad)
    assert _training.flops(net, 64) == whole - 2 * net.cfg.matmul_parameters() + 6 * thin


def test_the_forecast_knows_a_step_and_a_folder(world: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "timed", lambda func, args, kwargs: timing.traffic((args, kwargs)) / 1e10)
    monkeypatch.setattr(_forecast, "memory_free", lambda: 1e12)
    machine = Machine("test", 2, 8 << 30, True, {"float32": 1e11, "bfloat16": 4e11}, effort="usual")
    ours = {"model": Forecast(facts={"parameters": 3_443_136}), "data": Forecast(facts={"train_bytes": 2e6})}
    outside = {"model": Forecast(facts={"bytes": 4e8}), "data": Forecast(facts={"bytes": 2e6})}
    small, big = (
        replace(stage(world, **knobs), model=None).forecast(*given)
        for knobs, *given in (({}, ours, machine), ({"adapter": "lora"}, outside, machine))
    )
    assert 0 < small.seconds < big.seconds and big.disk < 4e8 and big.facts["parameters"] == 1e8


@pytest.mark.parametrize(("changes", "said"), [({"causal": False}, "sees the tokens after a token"), ({"encoder_layers": 1}, "reads two")])
def test_a_model_to_which_answers_are_given_away_is_refused(world: dict[str, Path], tmp_path: Path, changes: dict, said: str) -> None:
    """Such a model would be "tuned" to copy the token that stands after each one, and score better and better."""
    folder = tmp_path / "model"
    shutil.copytree(world["model"], folder)
    save(Transformer(Config(vocab=300, width=32, layers=1, heads=2, kv_heads=1, ffn=48, context=64, **changes)), folder)
    one = stage({**world, "model": folder})
    with pytest.raises(BadInput, match=said):
        one.forecast({"model": Forecast(), "data": Forecast(facts={"bytes": 2e6})}, Machine("test", 2, 8 << 30, True, {"float32": 1e11}))
    with pytest.raises(BadInput, match=said):
        one.run(job(tmp_path / "run"))
    with pytest.raises(BadInput, match="no log-probabilities of a text"):
        load(folder).score([[1, 2, 3]])


@pytest.mark.parametrize(
    ("adapter", "parallel", "said"),
    [
        ("lora", [], ""),
        ("lora", [{"megatron_tensor": {"sequence": True}}], "adapter: megatron_tensor as it is set here does not cut adapters"),
        ({"perp": {"rank": 2}}, [], "adapter: perp reads whole matrices, and tensor cuts them; shard goes with it"),
    ],
)
def test_adapters_that_tensor_does_not_cut_are_refused(world: dict[str, Path], adapter, parallel: list, said: str) -> None:
    one = stage(world, adapter=adapter, parallel=parallel)
    assert _mesh.refused(one, {"tensor": 2})[: len(said) or None] == said
    assert _mesh.refused(one, {"pipeline": 2}) == _mesh.refused(one, {"shard": 2}) == _mesh.refused(one, {"expert": 2}) == ""
    dropping = stage(world, adapter={"lora": {"dropout": 0.1}})
    assert "dropout goes by the order of an expert's tokens" in _mesh.refused(dropping, {"expert": 2})


def in_other_numbers(folder: Path, out: Path) -> Path:
    """The same model with its tokens numbered otherwise, and three more of them."""
    shutil.copytree(folder, out)
    _, vocab = renumbered(folder / "tokenizer.json", out / "tokenizer.json", 3)
    net, own = load(folder).net, json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    other = Transformer(replace(net.cfg, vocab=len(vocab)))
    rows = torch.zeros(len(vocab), net.cfg.width)
    rows[[vocab[token] for token in own]] = net.embed.weight.detach()[[*own.values()]]
    other.load_state_dict({**net.state_dict(), "embed.weight": rows, "head.weight": rows})
    save(other, out)
    return out


@pytest.mark.parametrize("adapter", [None, {"lora": {"rank": 4, "alpha": 16.0}}])
def test_a_teacher_teaches_answers_whatever_the_numbers_of_its_tokens(world: dict[str, Path], tmp_path: Path, adapter) -> None:
    knows = made(stage(world), tmp_path / "knows").out
    after = {}
    for name, folder in (("same", knows), ("other", in_other_numbers(knows, tmp_path / "other numbers"))):
        teacher = Artifact("2" * 64, folder, {"facts": {}})
        one = stage(world, loss={"distill": {"top": 200}}, roles={"teacher": teacher}, adapter=adapter, epochs=24.0 if adapter else 6.0)
        facts = made(one, tmp_path / name).facts
        after[name] = facts["answer_nats_after"]
        assert after[name] < 0.6 * facts["answer_nats_before"]
    assert after["other"] == pytest.approx(after["same"], rel=0.1)  # what it thinks of the three more goes to the others


def test_a_teacher_that_is_the_model_itself_has_nothing_to_teach_and_is_asked_once(world: dict[str, Path], tmp_path: Path) -> None:
    itself = Artifact("2" * 64, world["model"], {"facts": {}})
    knobs = {"loss": {"distill": {"top": 0, "cache": True}}, "roles": {"teacher": itself}, "epochs": 2.0}
    first = made(stage(world, **knobs), tmp_path / "first")
    begun = json.loads((first.out / "curve.jsonl").read_text().splitlines()[0])
    assert begun["step"] == 1 and abs(begun["loss"]) < 1e-3  # later ones are what the optimizer makes of rounding
    (tmp_path / "second" / "work").mkdir(parents=True)
    (tmp_path / "first" / "work" / "teachers").rename(tmp_path / "second" / "work" / "teachers")
    rows = made(stage(world, **knobs, rate=1e-2), tmp_path / "second").facts["teacher_rows"]["teacher"]
    assert rows["rows"] == rows["known"] > 0 and first.facts["teacher_rows"]["teacher"]["known"] < rows["rows"]


def test_roles_that_the_loss_cannot_read_are_refused(world: dict[str, Path], tmp_path: Path) -> None:
    machine, inputs = Machine("test", 2, 8 << 30, True, {"float32": 1e11}), {"model": Forecast(), "data": Forecast(facts={"bytes": 2e6})}
    itself = Artifact("2" * 64, world["model"], {"facts": {}})
    for knobs in ({"loss": "distill"}, {"roles": {"teacher": itself}}):
        with pytest.raises(BadInput, match=r"roles: the loss .* reads .*, and teacher differ"):
            stage(world, **knobs).forecast(inputs, machine)
    with pytest.raises(BadInput, match="Electra trains parts of its own beside the model"):
        stage(world, loss="electra").run(job(tmp_path / "parts"))
    shutil.copytree(world["model"], less := tmp_path / "less")
    told = json.loads((less / "tokenizer.json").read_text())
    told["model"]["merges"] = told["model"]["merges"][:5]
    (less / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(BadInput, match="the teacher cuts a text otherwise than the model's tokenizer"):
        stage(world, loss="distill", roles={"teacher": replace(itself, folder=less)}).run(job(tmp_path / "less words"))


@pytest.mark.wide
@pytest.mark.parametrize(
    ("adapter", "mesh"),
    [(None, {"data": 2}), ({"lora": {"rank": 2}}, {"shard": 2}), (None, {"pipeline": 2}), ({"lora": {"rank": 2}}, {"pipeline": 2})],
)
def test_processes_share_a_tuning_run(world: dict[str, Path], tmp_path: Path, store: Store, adapter: dict | None, mesh: dict) -> None:
    knobs = {
        "stage": "tune",
        "model": str(world["model"]),
        "data": str(world["chats"]),
        **SMALL,
        "micro": 1,
        "adapter": adapter,
        "rate": 2e-3,
    }
    told = []
    for size in (mesh, "auto"):
        place = tmp_path / "recipe.yaml"
        place.write_text(json.dumps({"name": "small", "steps": {"tuned": {**knobs, "mesh": size}}}))
        command = [sys.executable, "-m", "bloomery", "run", str(place), "--store", str(store.root), "--quiet", "--json", "--memory", "4GB"]
        command += ["--processes", "2"] if size != "auto" else []
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
        told.append(json.loads(done.stdout))
        shutil.rmtree(told[-1]["folder"])
    two, alone = told
    assert two["mesh"] == mesh and two["address"] == alone["address"] and two["audit"] == alone["audit"]
    for name in ("final_loss", "heldout_nats", "answer_nats_trained"):
        assert two[name] == pytest.approx(alone[name], rel=1e-4)


def test_a_pruned_model_learns_to_answer_and_keeps_its_zeros(world: dict[str, Path], tmp_path: Path) -> None:
    pruned = tmp_path / "pruned"
    shutil.copytree(world["model"], pruned)
    net = load(pruned).net
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.dim() == 2 and name.startswith("blocks."):
                p[torch.rand(p.shape, generator=torch_rng(Rng((name,)))) < 0.5] = 0
    save(net, pruned)
    for i, knobs in enumerate(({"keep_zeros": True}, {"adapter": {"perp": {"rank": 4, "alpha": 16.0}}, "train_also": ("norms", "embed")})):
        work = made(stage({**world, "model": pruned}, epochs=12.0, **knobs), tmp_path / str(i))
        work.demand()
        assert work.facts["answer_nats_after"] < 0.7 * work.facts["answer_nats_before"] and 0.4 < work.facts["zeros"] < 0.6
        assert (work.out / "model.safetensors").is_file() and not (work.out / "adapter_model.safetensors").is_file()
    learnt = stage(world, adapter={"l4q": {"bits": 4, "group": 16, "rank": 4, "alpha": 16.0}}, train_also=("norms", "embed"), epochs=12.0)
    work = made(learnt, tmp_path / "codes")
    work.demand()
    assert work.facts["answer_nats_after"] < 0.7 * work.facts["answer_nats_before"] and (work.out / "quantization.json").is_file()
