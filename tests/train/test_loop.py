"""The loop: the same gradient however tokens are laid, exact resume, guards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_run import CFG, VOCAB, curve, training

from bloomery.core.errors import BadInput, CheckFailed, Interrupted
from bloomery.methods.backward.autograd import Autograd
from bloomery.methods.loss.cross_entropy import CrossEntropy
from bloomery.methods.optim.adamw import AdamW
from bloomery.methods.schedule.constant import Constant
from bloomery.methods.view.causal import Causal
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Clock, Rng
from bloomery.train.audit import Audit
from bloomery.train.batches import lay, stack
from bloomery.train.curve import cut_curve
from bloomery.train.loop import Earlier, gradients, train
from bloomery.train.optimizer import Optimizer


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def gradient_of(folder: Path, layouts: list, cfg: Config) -> list[torch.Tensor]:
    run = training(folder)
    net = Transformer(cfg, Rng((0, "init")))
    run = replace(run, net=net, optimizer=Optimizer(net, AdamW(), run.rng), backward=Autograd(clip=0))
    run.optimizer.stream()
    gradients(run, Clock(0, 0, 64, 64.0), [stack(rows) for rows in layouts], Audit(net, run.optimizer))
    return [g.clone() for g in run.optimizer.collect()]


def test_packed_padded_and_accumulated_give_the_same_gradient(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    views = [Causal().view(draw.integers(0, 50, n + 1), None, VOCAB, Clock(0, 0, 1, None), Rng((0,)))[0] for n in (5, 11, 9, 7, 16, 3, 13)]
    packed = [[lay(views[0:2], 16), lay(views[2:4], 16), lay(views[4:5], 16), lay(views[5:7], 16)]]
    padded = [[lay([view], 16) for view in views]]
    accumulated = [[row] for row in padded[0]]
    wide = [[lay(views, 64)]]
    wanted = gradient_of(tmp_path, packed, CFG)
    for layouts in (padded, accumulated, wide, [packed[0][:1], packed[0][1:]]):
        for a, b in zip(gradient_of(tmp_path, layouts, CFG), wanted, strict=True):
            assert (a - b).norm() / b.norm() < 1e-6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_interrupted_anywhere_the_resumed_run_is_the_same_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = training(tmp_path / "whole", dtype)
    done = train(whole)
    assert done.clock.step == 20 and not done.resumed and done.audit == {"trained": 14, "silent": [], "unmoved": [], "moved": []}
    folder, rounds = tmp_path / "parts", 0
    while True:
        rounds, polls = rounds + 1, iter(range(100))
        part = training(folder, dtype, stopping=lambda polls=polls: next(polls) == 4)
        try:
            last = train(part)
            break
        except Interrupted as said:
            assert "saved" in str(said)
    assert rounds == 4 and last.resumed and last.loss == done.loss
    assert all(torch.equal(part.optimizer.tensors()[name], t) for name, t in whole.optimizer.tensors().items())
    assert curve(part) == curve(whole) and "heldout_bpb" in curve(whole)[5]
    again = train(training(folder, dtype))
    assert again.loss == done.loss and again.clock == done.clock and again.numbers == done.numbers


def test_killed_between_checkpoints_the_curve_is_cut_back(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole")
    train(whole)

    class Killed(Exception):
        pass

    polls = iter(range(100))

    def kill() -> bool:
        if next(polls) == 10:
            raise Killed
        return False

    part = training(tmp_path / "part", save_steps=4, stopping=kill)
    with pytest.raises(Killed):
        train(part)
    assert len(curve(part)) == 11 and part.checkpoints.newest()[1]["clock"]["step"] == 8
    part.curve.write_text(part.curve.read_text() + '{"step": 12, "tok')
    part = training(tmp_path / "part")
    train(part)
    assert curve(part) == curve(whole) and torch.equal(part.optimizer.master, whole.optimizer.master)


def test_it_learns(tmp_path: Path) -> None:
    run = training(tmp_path, total=64 * 150)
    train(run)
    losses = [row["loss"] for row in curve(run)]
    assert losses[0] == pytest.approx(np.log(50), rel=0.02) and losses[-1] < 0.9 * losses[0]


def test_a_number_that_is_not_finite_stops_with_a_sentence(tmp_path: Path) -> None:
    run = training(tmp_path)
    with torch.no_grad():
        run.net.blocks[0].mlp.down.weight[0, 0] = float("nan")
    with pytest.raises(CheckFailed, match=r"loss is not finite at step 1.*documents of this step: d"):
        train(run)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    train(training(tmp_path))
    net = Transformer(replace(CFG, ffn=20))
    with pytest.raises(CheckFailed, match="another model"):
        train(training(tmp_path, net=net, optimizer=Optimizer(net, AdamW(), Rng((0,)))))


def test_a_checkpoint_of_another_numeric_mode_is_refused(tmp_path: Path) -> None:
    train(training(tmp_path, mode={"compile": False}))
    with pytest.raises(BadInput, match=r"made with .*False.*this process has .*True.*remove that folder"):
        train(training(tmp_path, mode={"compile": True}))


@dataclass(frozen=True)
class Looking:
    """A loss with two terms of different denominators, one of which looks at the whole batch first."""

    roles = ("net",)

    def weigh(self, batch):
        return {"tokens": float(batch.weights.sum()), "rows": float(len(batch.inputs))}

    def look(self, roles, batch, rng):
        return {"mean": batch.targets.double().mean()}

    def terms(self, roles, batch, seen, rng):
        hidden = roles["net"](batch.inputs, batch.positions, batch.documents)
        centred = batch.targets.double() - seen["mean"]
        return {"tokens": (hidden.double().mean(-1) * centred).sum(), "rows": hidden.double().square().sum()}


def test_losses_that_look_at_the_global_batch_accumulate_exactly(tmp_path: Path) -> None:
    found = []
    for micro in (1, 2, 4):
        run = training(tmp_path, loss=Looking(), backward=Autograd(clip=0))
        run.feed.micro = micro
        gradients(run, Clock(0, 0, 64, 64.0), run.feed.next(Clock(0, 0, 64, 64.0)), Audit(run.net, run.optimizer))
        found.append(run.optimizer.grad.clone())
    for other in found[1:]:
        assert (other - found[0]).norm() / found[0].norm() < 1e-6


def test_the_audit_names_what_was_not_trained() -> None:
    net = torch.nn.Module()
    net.used, net.unused, net.frozen = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    net.frozen.requires_grad_(False)
    optimizer = Optimizer(net, AdamW(), Rng((0,)))
    audit = Audit(net, optimizer)
    for t in range(1, 4):
        (net.used.sum() * t).backward()
        audit.gradients(optimizer.collect())
        optimizer.step(0.1, t)
        net.frozen.data += 1
        audit.after_step()
    assert audit.verdict == {"trained": 2, "silent": ["unused"], "unmoved": ["unused"], "moved": ["frozen"]}


def test_experts_that_too_few_tokens_chose_are_told_and_no_fault(tmp_path: Path) -> None:
    """A gradient of another expert of the layer shows that the parameter is wired; where no expert has one, it is not."""
    net = Transformer(replace(CFG, experts=3, top=1, top_normalised=False), Rng((0,)))
    for block in net.blocks:
        block.mlp.balance()
        block.mlp.bias[0] = 9.0  # the first expert is always taken
    optimizer = Optimizer(net, AdamW(), Rng((0,)))
    audit = Audit(net, optimizer)
    for t in range(1, 5):
        net(torch.arange(16)[None]).pow(3).sum().backward()
        grads = optimizer.collect()
        for one, g in zip(optimizer.claims, grads, strict=True):
            if one.name.startswith("blocks.1.mlp.experts") and one.name.endswith("down.weight"):
                g.zero_()  # as if it were not wired
        audit.gradients(grads)
        optimizer.step(1e-3, t)
        assert audit.verdict is None
        audit.after_step(last=t == 4)
        assert Audit(net, optimizer, audit.verdict, silent=audit.silent).silent == audit.silent
    idle = {f"blocks.{i}.mlp.experts.{x}.{part}.weight" for i in range(2) for x in (1, 2) for part in ("gate_up", "down")}
    unwired = {f"blocks.1.mlp.experts.{x}.down.weight" for x in range(3)}
    assert set(audit.verdict["idle"]) == idle - unwired
    assert set(audit.verdict["silent"]) == unwired and set(audit.verdict["unmoved"]) <= unwired


def test_cut_curve_keeps_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "curve.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    assert cut_curve(path, 2) == 2
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    assert cut_curve(tmp_path / "none", 2) == 0
    assert (tmp_path / "none").read_text() == ""


@pytest.mark.parametrize("place", ["to_disk", "os.replace"])
def test_a_kill_while_the_curve_is_cut_leaves_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    def kill(*_):
        raise KeyboardInterrupt

    path = tmp_path / "curve.jsonl"
    text = '{"step": 1}\n{"step": 2}\n'
    path.write_text(text)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"bloomery.train.curve.{place}", kill)
        cut_curve(path, 1)
    assert path.read_text() == text
    assert cut_curve(path, 1) == 1 and path.read_text() == '{"step": 1}\n'


def test_a_run_goes_on_after_another_as_if_it_were_one(tmp_path: Path) -> None:
    """Same weights, moments, place in the text and random streams: with a constant rate, two runs of half the length are the whole."""
    whole = training(tmp_path / "whole", schedule=Constant(), evaluate=None)
    train(whole)
    first = training(tmp_path / "first", schedule=Constant(), evaluate=None, total=8 * 64)
    train(first)
    tensors = {name: t.clone() for name, t in first.optimizer.tensors().items()}
    kept = Earlier(tensors, first.optimizer.layout(), 8, first.feed.state, first.feed.order())
    second = training(tmp_path / "second", schedule=Constant(), evaluate=None, total=12 * 64, earlier=kept)
    train(second)
    assert second.steps_before == 8 and torch.equal(second.optimizer.master, whole.optimizer.master)
    elsewhere = training(tmp_path / "fourth", schedule=Constant(), evaluate=None, total=64, earlier=replace(kept, by="another"))
    train(elsewhere)
    assert elsewhere.feed.state == {"epoch": 0, "row": 4}
    other = Config(50, 16, 1, 2, 1, 24, 16)
    net = Transformer(other, Rng((0, "init")))
    strange = training(tmp_path / "third", net=net, optimizer=Optimizer(net, AdamW(), Rng((0,)), 0.1), earlier=kept)
    with pytest.raises(BadInput, match="another shape"):
        train(strange)


class Bend(CrossEntropy):
    """Adds to the hidden states what a part of the loss makes of them, and reads a model that is not trained."""

    roles = ("net", "still")

    def terms(self, roles, batch, seen, rng):
        net = roles["net"]
        hidden = net(batch.inputs, batch.positions, batch.documents)
        with torch.no_grad():
            still = roles["still"](batch.inputs, batch.positions, batch.documents)
        logits = net.logits(hidden + roles["bend"](hidden))
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), reduction="none")
        pull = (hidden - still).square().mean(-1).flatten()
        return {"tokens": ((nats + pull) * batch.weights.flatten()).sum()}


def test_parts_of_a_loss_are_trained_along_and_other_models_are_not(tmp_path: Path) -> None:
    net, still = Transformer(CFG, Rng((0, "init"))), Transformer(CFG, Rng((1, "init"))).requires_grad_(False)
    bend = torch.nn.Linear(16, 16, bias=False)
    net.add_module("parts", torch.nn.ModuleDict({"bend": bend}))
    before, kept = bend.weight.detach().clone(), still.embed.weight.clone()
    run = training(tmp_path, net=net, optimizer=Optimizer(net, AdamW(), Rng((0,)), 0.1), loss=Bend(16), evaluate=None)
    run = replace(run, roles={"bend": bend, "still": still})
    assert train(run).audit["silent"] == []
    assert not torch.equal(bend.weight, before) and torch.equal(still.embed.weight, kept)
    assert "parts.bend.weight" in run.optimizer.weights()


def test_what_changes_before_a_step_follows_the_clock(tmp_path: Path) -> None:
    seen: list[int] = []
    polls = iter(range(100))
    run = training(tmp_path, before_step=lambda clock: seen.append(clock.step), stopping=lambda: next(polls) == 4)
    with pytest.raises(Interrupted):
        train(run)
    train(training(tmp_path, before_step=lambda clock: seen.append(clock.step)))
    assert seen == list(range(20))
