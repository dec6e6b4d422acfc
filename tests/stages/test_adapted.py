"""Training that leaves zeros zero, through all weights or an adapter that is folded in: in pretraining and in tuning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_pretrain import job, made, one_thread, stage, tokens  # noqa: F401

from bloomery.core.errors import BadInput
from bloomery.core.store import Artifact
from bloomery.methods.compress.gptq import GPTQ
from bloomery.nn import packed
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import load, save
from bloomery.seams import Rng
from bloomery.stages import _adapted
from bloomery.stages.compress import Compress

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def pruned(tokens: Path, tmp_path: Path) -> Artifact:  # noqa: F811
    """A model of the small shape half of whose matrices is zero."""
    vocab = json.loads((tokens / "card.json").read_text())["facts"]["vocab"]
    net, g = Transformer(Config(vocab, 16, 2, 2, 2, 24, 16), Rng((3,))), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.dim() == 2 and name.startswith("blocks."):
                p[torch.rand(p.shape, generator=g) < 0.5] = 0
    folder = tmp_path / "pruned"
    folder.mkdir()
    save(net, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tokens / name).read_bytes())
    return Artifact("2" * 64, folder, {"kind": "model", "facts": {}})


def zeros(folder: Path) -> dict[str, torch.Tensor]:
    return {name: p == 0 for name, p in load(folder).named_parameters() if p.dim() == 2 and name.startswith("blocks.")}


@pytest.mark.parametrize("knobs", [{"keep_zeros": True}, {"adapter": {"perp": {"rank": 2}}, "train_also": ("norms",)}], ids=["all", "perp"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_recovered_model_has_learnt_and_its_zeros_are_where_they_were(tokens, pruned, tmp_path, knobs, precision):  # noqa: F811
    done = made(tokens, tmp_path / "run", start=(pruned,), init="stack", precision=precision, **knobs)
    before, after, rows = load(pruned.folder), load(done.out), zeros(pruned.folder)
    assert all(zeros(done.out)[name].equal(zero) for name, zero in rows.items()) and 0.4 < done.facts["zeros"] < 0.6
    moved = [name for name, p in after.named_parameters() if not p.equal(before.get_parameter(name))]
    assert set(rows) <= set(moved) and "norm.weight" in moved and ("embed.weight" in moved) == ("keep_zeros" in knobs)
    if "adapter" in knobs:
        assert done.facts["trained_parameters"] < 0.5 * done.facts["parameters"] and len(done.facts["adapted"]) == 8


def test_a_pruned_and_quantized_model_recovers_and_stays_as_small(tokens, pruned, tmp_path):  # noqa: F811
    data = Artifact("1" * 64, tokens, json.loads((tokens / "card.json").read_text()))
    squeezed = job(tmp_path / "squeezed")
    Compress(pruned, data, GPTQ(4, keep_zeros=True, group=8), samples=30, skip=("blocks.0.mlp.down",)).run(squeezed)
    coded = Artifact("3" * 64, squeezed.out, {"kind": "model", "facts": squeezed.facts})
    knobs = {"start": (coded,), "init": "stack", "train_also": ("norms",), "loss": "distill", "roles": {"teacher": pruned}}
    norms = made(tokens, tmp_path / "norms", adapter={"perp": {"rank": 0}}, **knobs)
    before, after = packed.read(coded.folder), packed.read(norms.out)
    assert before.keys() == after.keys() and norms.facts["codes_kept"] == len(before) == 7
    assert packed.skipped(norms.out) == packed.skipped(coded.folder)
    assert (norms.out / "model.safetensors").stat().st_size < 1.05 * (coded.folder / "model.safetensors").stat().st_size
    old, new = load(coded.folder), load(norms.out)
    moved = {name for name, p in new.named_parameters() if not p.equal(old.get_parameter(name))}
    assert moved == {name for name, _ in old.named_parameters() if "norm" in name} and norms.facts["zeros"] > 0.4
    whole = made(tokens, tmp_path / "whole", adapter={"perp": {"rank": 2}}, **knobs)  # moves what the codes say
    assert not packed.read(whole.out) and "codes_kept" not in whole.facts


def test_without_the_knob_zeros_are_lost_and_the_check_sees_it(tokens, pruned, tmp_path):  # noqa: F811
    done = made(tokens, tmp_path / "run", start=(pruned,), init="stack")
    assert not all(zeros(done.out)[name].equal(zero) for name, zero in zeros(pruned.folder).items()) and "zeros" not in done.facts
    kept, again = stage(tokens, start=(pruned,), init="stack", keep_zeros=True), job(tmp_path / "again")
    _adapted.check_zeros(kept, pruned.folder, done.out, again)
    assert not again.checks[-1]["ok"] and again.checks[-1]["value"] > 100


def test_what_does_not_go_together_is_refused(tokens, pruned, tmp_path):  # noqa: F811
    for knobs, said in (
        ({"keep_zeros": True, "adapter": "perp"}, "perp keeps zeros by itself"),
        ({"train_also": ("norms",)}, "without one every weight"),
        ({"adapter": "perp", "train_also": ("nose",)}, "not nose"),
        ({"adapter": "lora"}, "folded into a plain model"),
        ({"adapter": "perp", "keep_state": True}, "cannot be gone on with"),
    ):
        with pytest.raises(ValueError, match=said):
            stage(tokens, start=(pruned,), init="stack", **knobs)
    with pytest.raises(BadInput, match="no matrix of the blocks holds a zero"):
        made(tokens, tmp_path / "dense", keep_zeros=True)
    with pytest.raises(BadInput, match="name their model in start"):
        made(tokens, tmp_path / "fresh", adapter={"perp": {"rank": 2}})
