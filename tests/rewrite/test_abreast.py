"""Passes that go abreast: what each computes is its own, faults come out, and none is left behind."""

from __future__ import annotations

import pytest
import torch
from loud import CFG, model, texts

from bloomery.methods.compress.gptq import GPTQ
from bloomery.nn.model import Transformer
from bloomery.nn.saving import digest
from bloomery.rewrite import passing, walk
from bloomery.rewrite.abreast import abreast
from bloomery.rewrite.compress import compress

torch.set_num_threads(1)


def test_passes_stop_together_and_keep_what_is_theirs():
    seen, found = [], []

    def run(name: str) -> str:
        told = name
        for place in ("first", "second"):
            found.append((place, name))
            passes[names.index(name)].stop(place)
            told += f" {place}"
        return told

    names = ["a", "b", "c"]
    with abreast([lambda name=name: run(name) for name in names]) as passes:
        while not all(one.ended for one in passes):
            for one in passes:
                one.go()
            seen.append({one.at for one in passes})
    assert seen == [{"first"}, {"second"}, {None}] and [one.out for one in passes] == [f"{name} first second" for name in names]
    assert found == [(place, name) for place in ("first", "second") for name in names]


def test_a_fault_comes_out_and_the_others_are_ended():
    cleared = []

    def waits() -> None:
        try:
            passes[0].stop("here")
        finally:
            cleared.append("waits")

    with pytest.raises(ZeroDivisionError), abreast([waits, lambda: 1 / 0, lambda: cleared.append("never begun")]) as passes:
        passes[0].go()
        passes[1].go()
    assert cleared == ["waits"] and all(one.ended for one in passes)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_small_batches_that_go_abreast_give_what_many_passes_give(monkeypatch, precision):
    sequences, calls = texts(), []

    def solved(side: bool) -> tuple[Transformer, int]:
        net = model()
        calls.clear()
        for block in net.blocks:
            block.register_forward_pre_hook(lambda *_: calls.append(1))
        monkeypatch.setattr(walk, "MOST", 256 if side else 0)
        compress(net, GPTQ(4, 16), sequences, precision=precision)
        return net, len(calls)

    monkeypatch.setattr(passing, "BATCH", 48)
    (abreast_net, once), (other, many) = solved(True), solved(False)
    assert digest(abreast_net) == digest(other)
    if precision == torch.float32:  # else copies run, not the blocks with the hooks
        assert many == once * 5 and once > 2 * CFG.layers
