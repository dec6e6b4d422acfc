"""recipes/lora.yaml as a user runs it: a Hugging Face folder and a file of conversations, nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bloomery.cli.main import guarded

ROOT = Path(__file__).parents[2]
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT / "src")}
SHAPE = {"vocab_size": 300, "bos_token_id": 1, "eos_token_id": 2}
COLOURS = {"a": "red", "b": "blue", "c": "green"}


def turns(i: int) -> tuple[str, str]:
    letter = "abc"[i % 3]
    return f"number {i} letter {letter}", f"the colour is {COLOURS[letter]}"


FORMATS = {
    "messages": lambda q, a: {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]},
    "ShareGPT": lambda q, a: {"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]},
    "Alpaca": lambda q, a: {"instruction": q, "input": "", "output": a},
    "prompt-completion": lambda q, a: {"prompt": q, "completion": a},
}


def made(kind: str, folder: Path) -> Path:
    """A small random model as transformers writes it, with a tokenizer that has no chat template."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    from bloomery.data.tokenizer import learn

    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    if kind == "llama":
        net = LlamaForCausalLM(LlamaConfig(**SHAPE, **small, max_position_embeddings=96, tie_word_embeddings=False))
    elif kind == "qwen3":
        net = Qwen3ForCausalLM(Qwen3Config(**SHAPE, **small, head_dim=16, max_position_embeddings=96, tie_word_embeddings=True))
    else:
        net = GPT2LMHeadModel(GPT2Config(**SHAPE, n_embd=32, n_layer=2, n_head=4, n_positions=96))
    net.save_pretrained(folder)
    learn([" ".join(turns(i)) for i in range(200)], 300).save(folder)
    words = json.loads((folder / "tokenizer_config.json").read_text())
    words.pop("chat_template")
    (folder / "tokenizer_config.json").write_text(json.dumps(words))
    return folder


def command(folder: Path, model: Path, talk: Path) -> list[str]:
    given = [f"roles.base={model}", f"roles.talk={talk}", "adapted.epochs=6", "adapted.rate=0.01", "adapted.batch=512"]
    return ["run", str(ROOT / "recipes/lora.yaml"), "--store", str(folder / "store"), *(part for one in given for part in ("--set", one))]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str]]:
    """Exit code and standard error of the recipe, in this process or, `apart`, in one of its own."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def done(folder: Path, model: Path, talk: Path, apart: bool = False) -> tuple[int, str]:
        capsys.readouterr()
        arguments = command(folder, model, talk)
        if not apart:
            return guarded(arguments), capsys.readouterr().err
        ran = subprocess.run([sys.executable, "-m", "bloomery.cli.main", *arguments], env=ENV, capture_output=True, text=True)
        return ran.returncode, ran.stderr

    return done


CASES = [("llama", "messages", True), ("qwen3", "ShareGPT", False), ("gpt2", "Alpaca", False), ("llama", "prompt-completion", False)]


@pytest.mark.parametrize(("kind", "format", "apart"), CASES)
def test_a_model_path_and_a_data_path_are_enough(kind: str, format: str, apart: bool, tmp_path: Path, run: Callable) -> None:
    talk = tmp_path / "talk.jsonl"
    talk.write_text("".join(json.dumps(FORMATS[format](*turns(i))) + "\n" for i in range(120)))
    model = made(kind, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    code, said = run(tmp_path, model, talk, apart)
    assert code == 0, said
    cards = {card["step"]: card for path in (tmp_path / "store/artifacts").glob("*/card.json") for card in [json.loads(path.read_text())]}
    facts = cards["adapted"]["facts"]
    assert format.lower() in facts["data_format"].lower() and facts["data_format"] in said
    assert facts["answer_nats_after"] < facts["answer_nats_before"] and facts["answer_nats_change"]["high"] < 0
    assert all(check["ok"] for card in cards.values() for check in card["checks"])
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before, "the model that was given stays as it is"
    merged, folder = (next((tmp_path / "store/artifacts").glob(f"{stage}-*")) for stage in ("merge", "export"))
    same_in_peft(model, next((tmp_path / "store/artifacts").glob("tune-*")), merged, folder)


def same_in_peft(model: Path, adapter: Path, merged: Path, folder: Path) -> None:
    """The adapter on the original model in peft, our merged model, and its export in transformers give the same logits."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from bloomery.infer.model import load

    ids = load(merged).question([("user", turns(1)[0])])
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32), str(adapter)).eval()
    exported = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        wanted = theirs(torch.tensor([ids])).logits[0]
        assert (load(merged).logits(ids) - wanted).abs().max() < 1e-4
        assert (exported(torch.tensor([ids])).logits[0] - wanted).abs().max() < 1e-4


def test_what_is_missing_is_said_before_any_work(tmp_path: Path, run: Callable) -> None:
    model, talk = made("llama", tmp_path / "model"), tmp_path / "talk.jsonl"
    code, said = run(tmp_path, model, talk)
    assert code == 2 and f"'{talk}' is neither a step" in said and "file that exists" in said
    talk.write_text('{"question": "a", "reply": "b"}\n')
    code, said = run(tmp_path, model, talk)
    assert code == 2 and all(word in said for word in ("question, reply", "instruction, input, output"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "architectures": ["MambaForCausalLM"], "model_type": "mamba"}))
    talk.write_text(json.dumps(FORMATS["messages"](*turns(0))) + "\n")
    code, said = run(tmp_path, model, talk, apart=True)
    assert code == 2 and "Mamba" in said and "Traceback" not in said
    assert not list((tmp_path / "store").glob("work/*")), "nothing was begun"
