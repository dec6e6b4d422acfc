"""The pretrain stage: artifact, checks, forecast, knobs, and the same result after kills at any instant."""
from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bloomery.core import catalog
from bloomery.core.errors import CheckFailed, Interrupted
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact
from bloomery.data.shards import write_shards
from bloomery.seams import Rng
from bloomery.stages import pretrain
from bloomery.stages.pretrain import Pretrain

SMALL = {
    "width": 16, "layers": 2, "heads": 2, "ffn": 24, "context": 16, "tokens": 16 * 4 * 30, "batch": 64, "evaluate_tokens": 128,
    "evaluate_every": 7, "rate": 1e-2, "compile": "off", "checkpoint_steps": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain, "threads", lambda: 1)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokens artifact of a few hundred small documents."""
    folder = tmp_path_factory.mktemp("tokens")
    draw = random.Random(0)
    words = ["def", "return", "über", "x", "self", "import", "\n    ", "(", ")", " = ", "42", "🙂"]
    texts = ["".join(draw.choice(words) + draw.choice(["", " "]) for _ in range(draw.randint(5, 60))) for _ in range(200)]
    known = Tokenizer(models.BPE())
    known.pre_tokenizer, known.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|pad|>", "<|bos|>", "<|eos|>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    known.train_from_iterator(texts, trainer)
    known.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text("{}")
    for name, part in (("train", texts[:160]), ("heldout", texts[160:])):
        rows = [({"id": f"{name}{i}", "bytes": len(t.encode())}, np.array([1, *known.encode(t).ids, 2])) for i, t in enumerate(part)]
        write_shards(folder / name, rows, 300)
    (folder / "card.json").write_text(json.dumps({"kind": "tokens", "facts": {"vocab": known.get_vocab_size()}}))
    return folder


def stage(data: Path, **knobs) -> Pretrain:
    entry = catalog.find("stage", "pretrain", "here")
    methods = {k.name: catalog.build_method(k.seam, knobs.pop(k.name, k.default)) for k in entry.knobs.values() if k.seam}
    artifact = Artifact("0" * 64, data, json.loads((data / "card.json").read_text()))
    return Pretrain(artifact, **methods, **{**SMALL, **knobs})


def job(folder: Path, signals: Signals | None = None) -> Job:
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    log = Log(folder / "work" / "log.jsonl", quiet=True)
    return Job(folder / "out", folder / "work", Rng((0, "pretrain")), 0, log, None, None, {}, signals or Signals())


def made(tokens: Path, folder: Path, **knobs) -> Job:
    one, work = stage(tokens, **knobs), job(folder)
    one.run(work)
    one.check(work.out, work)
    work.demand()
    return work


def curve(folder: Path) -> list[dict]:
    rows = [json.loads(line) for line in (folder / "out" / "curve.jsonl").read_text().splitlines()]
    return [{key: row[key] for key in row if key not in ("tokens_per_second", "seconds")} for row in rows]


def test_writes_a_model_that_reads_back_and_learned(tokens: Path, tmp_path: Path) -> None:
    work = made(tokens, tmp_path)
    files = {"model.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "curve.jsonl"}
    assert {path.name for path in work.out.iterdir()} == files
    facts = work.facts
    assert facts["tokens"] == 1920 and facts["steps"] == 30 and len(facts["weights_sha256"]) == 64
    rows = curve(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 31)) and [r["step"] for r in rows if "heldout_bpb" in r] == [7, 14, 21, 28, 30]
    measured = [row["heldout_bpb"] for row in rows if "heldout_bpb" in row]
    assert measured[-1] < measured[0] and facts["heldout_bits_per_byte"] == measured[-1]
    json.dumps(facts)


def test_a_changed_weight_fails_the_check(tokens: Path, tmp_path: Path) -> None:
    from bloomery.nn.saving import load, save

    work = made(tokens, tmp_path)
    net = load(work.out)
    net.norm.weight.data[0] += 1e-6
    save(net, work.out)
    (work.out / "card.json").write_text(json.dumps({"facts": work.facts}))
    again = job(tmp_path / "again")
    stage(tokens).check(work.out, again)
    with pytest.raises(CheckFailed, match="weights read back"):
        again.demand()


KILLED = """
import sys; sys.path.insert(0, {here!r})
from pathlib import Path
import test_pretrain as t
t.pretrain.threads = lambda: 1
t.made(Path({tokens!r}), Path({folder!r}))
print("done")
"""


def test_killed_at_any_instant_the_result_is_the_same(tokens: Path, tmp_path: Path) -> None:
    whole = made(tokens, tmp_path / "whole")
    code = KILLED.format(here=str(Path(__file__).parent), tokens=str(tokens), folder=str(tmp_path / "parts"))
    draw, kills = random.Random(), 0
    log = tmp_path / "parts" / "work" / "log.jsonl"
    while True:
        before = log.read_text().count('"checkpoint"') if log.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        while kills < 3 and process.poll() is None:
            if log.exists() and log.read_text().count('"checkpoint"') > before + 2:
                time.sleep(draw.random() * 0.05)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        out = process.communicate()[0]
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, out
        kills += 1
    assert kills >= 1
    assert (tmp_path / "parts/out/model.safetensors").read_bytes() == (whole.out / "model.safetensors").read_bytes()
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def test_stops_when_asked_and_goes_on(tokens: Path, tmp_path: Path) -> None:
    whole = made(tokens, tmp_path / "whole", checkpoint_steps=0)
    signals = Signals()
    signals.stopping = True
    with pytest.raises(Interrupted):
        stage(tokens, checkpoint_steps=0).run(job(tmp_path / "parts", signals))
    assert not (tmp_path / "parts/out/model.safetensors").exists()
    assert made(tokens, tmp_path / "parts", checkpoint_steps=0).facts["weights_sha256"] == whole.facts["weights_sha256"]


def test_forecast_counts_what_is_then_measured(tokens: Path) -> None:
    machine = Machine("test", 2, 8 << 30, True, {"float32": 1e11, "bfloat16": 4e11})
    one = stage(tokens, width=192, layers=6, heads=3, ffn=512, context=512, tokens=2_000_000, batch=4096, compile="auto")
    said = one.forecast({"data": Forecast(facts={"vocab": 4096})}, machine)
    assert said.facts["parameters"] == 3_443_136 and said.facts["tokens"] >= 2_000_000
    assert said.facts["flops"] == pytest.approx(6 * (3_443_136 - 13 * 192) * said.facts["tokens"] + 36 * 192 * 512 * said.facts["tokens"])
    assert 10 < said.seconds < 3600 and 5e8 < said.memory < 4e9 and said.disk > 4 * said.facts["parameters"]
    assert set(one.mode()) == {"precision", "compile", "threads"}


def test_light_to_import_and_bad_knobs() -> None:
    code = "import sys, bloomery.stages.pretrain as p; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'pyarrow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    bad = (({"tokens": 0}, "tokens"), ({"width": 100, "heads": 3}, "multiple"), ({"rate": 0.0}, "rate"), ({"micro": -1}, "negative"))
    for knobs, said in bad:
        with pytest.raises(ValueError, match=said):
            Pretrain(None, **knobs)
