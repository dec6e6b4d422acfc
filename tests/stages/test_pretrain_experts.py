"""The pretrain stage with a mixture of experts of the model's own, and with weights whose rates follow the width."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from small_pretrain import job, made, stage

from bloomery.core.errors import BadInput, Interrupted
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact
from bloomery.nn.hf import to_hf
from bloomery.nn.saving import load
from bloomery.stages.pretrain import Pretrain

pytestmark = pytest.mark.usefixtures("one_thread")
EXPERTS = {"experts": 8, "top": 2, "expert_ffn": 12, "batch": 256, "tokens": 256 * 25, "evaluate_tokens": 1024, "rate": 3e-2}
EXPERTS |= {"checkpoint_steps": 0, "evaluate_every": 25}
DROPPED = "tokens that an expert of their choice did not get"


def test_an_auxiliary_loss_balances_and_other_tools_read_the_model(tokens: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    found = made(tokens, tmp_path / "balanced", loss={"global_batch_lbl": {"coefficient": 0.1}}, **EXPERTS)
    plain = made(tokens, tmp_path / "plain", **EXPERTS)
    assert found.facts["expert_excess"] < plain.facts["expert_excess"] and len(found.facts["expert_excess_by_layer"]) == 2
    (check,) = (one for one in found.checks if one["name"] == DROPPED)
    assert check["value"] == 0 and check["note"].startswith("of 1024 in 2 layers")
    net, out = load(found.out), tmp_path / "theirs"
    assert (net.cfg.experts, net.cfg.top, net.cfg.ffn, net.cfg.architecture) == (8, 2, 12, "mixtral")
    out.mkdir()
    to_hf(net, found.out, out)
    theirs, row = AutoModelForCausalLM.from_pretrained(out).eval(), torch.arange(16)[None]
    with torch.no_grad():
        assert type(theirs).__name__ == "MixtralForCausalLM" and (theirs(row).logits - net.logits(net(row))).abs().max() < 1e-5


def test_a_dropped_token_fails_the_check(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bloomery.nn import mixture

    whole = mixture.dispatch

    def limited(x, weight, chosen, experts):  # the last token of every call finds no room
        return torch.cat((whole(x[:-1], weight[:-1], chosen[:-1], experts), x[-1:]))

    one, work = stage(tokens, shared_ffn=8, **EXPERTS), job(tmp_path)
    one.run(work)
    monkeypatch.setattr(mixture, "dispatch", limited)
    one.check(work.out, work)
    (check,) = (found for found in work.checks if found["name"] == DROPPED)
    assert check["value"] == 4 * 2 * 2 and not check["ok"]  # in 4 calls of 2 layers, by 2 experts


def test_biases_balance_and_are_the_same_after_an_interruption(tokens: Path, tmp_path: Path) -> None:
    longer = {**EXPERTS, "tokens": 256 * 80}
    balanced = {**longer, "modules": [{"loss_free": {"rate": 0.01}}]}
    whole, plain = made(tokens, tmp_path / "whole", **balanced), made(tokens, tmp_path / "plain", **longer)
    assert whole.facts["expert_excess"] < 0.75 * plain.facts["expert_excess"]  # 1.3 to 2.0, as the threads round, and 3.0
    biases = [block.mlp.bias for block in load(whole.out).blocks]
    assert all(bias.any() and (bias / 0.01).sub((bias / 0.01).round()).abs().max() < 1e-3 for bias in biases)
    signals = Signals()
    signals.stopping = True
    with pytest.raises(Interrupted):
        stage(tokens, **balanced).run(job(tmp_path / "parts", signals))
    assert made(tokens, tmp_path / "parts", **balanced).facts["weights_sha256"] == whole.facts["weights_sha256"]


def test_a_run_goes_on_with_its_biases_and_not_as_another_model(tokens: Path, tmp_path: Path) -> None:
    balanced = {**EXPERTS, "modules": [{"loss_free": {"rate": 0.01}}], "schedule": "constant"}
    whole, first = job(tmp_path / "whole"), job(tmp_path / "first")
    stage(tokens, **balanced).run(whole)
    stage(tokens, **{**balanced, "tokens": 256 * 10}, keep_state=True).run(first)
    after, second = Artifact("3" * 64, first.out, {"facts": first.facts}), job(tmp_path / "second")
    stage(tokens, **{**balanced, "tokens": 256 * 15}, after=after).run(second)
    assert second.facts["weights_sha256"] == whole.facts["weights_sha256"]
    for changes, said in (({"modules": []}, "modules is"), ({"init": {"mup": {"base": 8}}}, "rope_base|query_scalar|head_divisor")):
        with pytest.raises(BadInput, match=f"after: {said}"):
            stage(tokens, **{**balanced, **changes}, after=after).run(job(tmp_path / said[:7]))


def test_rates_that_follow_the_width(tokens: Path, tmp_path: Path) -> None:
    work = made(tokens, tmp_path, init={"mup": {"base": 8, "head": 8}})
    told = json.loads((work.out / "model.json").read_text())
    assert (told["head_divisor"], told["architecture"]) == (2.0, "granite") and load(work.out).blocks[0].mixer.scale == 8**-0.5
    with pytest.raises(ValueError, match="for optimizers of single numbers"):
        stage(tokens, init="mup", optimizer="muon")
    with pytest.raises(ValueError, match="go with experts"):
        Pretrain(None, shared_ffn=8)
