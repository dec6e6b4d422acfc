"""A remembered teacher says what it would say, once, also after a torn write; an aligned one speaks the student's numbers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch.nn import functional as F

from bloomery.methods.loss.distill import Distill
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Batch, Rng
from bloomery.train.teacher import Aligned, Remembered, records

RNG = Rng((0, "teacher"))
SHAPE = Config(40, 16, 1, 2, 2, 24, 16)


def batch(seed: int = 0, rows: int = 3) -> Batch:
    g = torch.Generator().manual_seed(seed)
    inputs, targets = (torch.randint(0, 40, (rows, 10), generator=g) for _ in range(2))
    documents = torch.where(torch.arange(10) >= torch.randint(4, 11, (rows, 1), generator=g), -1, torch.zeros(rows, 10, dtype=torch.int64))
    weights = (documents >= 0) * (torch.rand(rows, 10, generator=g) > 0.3)
    return Batch(inputs, targets, weights.float(), torch.arange(10).expand(rows, 10), documents)


def teacher(seed: int = 1) -> Transformer:
    net = Transformer(SHAPE, RNG.child(seed)).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(6.0) if p.dim() > 1 else None
    return net


def never() -> torch.nn.Module:
    raise AssertionError("the teacher was made again")


@pytest.mark.parametrize(("top", "temperature"), [(5, 1.0), (0, 2.0)])
def test_it_says_what_the_teacher_says_and_the_second_time_from_disk(tmp_path, top, temperature):
    b, net = batch(), teacher()
    first = Remembered(teacher, 40, tmp_path, top, temperature)
    log, ids = first.likeliest(b)
    with torch.no_grad():
        wanted = F.log_softmax(net.logits(net(b.inputs, b.positions, b.documents))[b.weights > 0] / temperature, -1).topk(top or 40, -1)
    assert torch.allclose(log, wanted.values, atol=2e-2) and log.equal(wanted.values.half().float()) and ids.equal(wanted.indices)
    again = Remembered(never, 40, tmp_path, top, temperature)
    assert all(a.equal(b) for a, b in zip(again.likeliest(b), (log, ids), strict=True))
    assert (first.asked, first.met) == (3, 0) and (again.asked, again.met) == (3, 3)


def test_rows_are_known_one_by_one_and_whatever_changes_them_is_another_row(tmp_path):
    seen = Remembered(teacher, 40, tmp_path, 4, 1.0)
    seen.likeliest(batch(0))
    b = batch(0)
    b.inputs[1, 0] = (b.inputs[1, 0] + 1) % 40
    b.weights[2] = 1.0
    b.documents[2] = 0
    seen.likeliest(b)
    assert (seen.asked, seen.met) == (6, 1)
    b.weights[0] *= 0.5  # the same tokens with other weights
    seen.likeliest(b)
    assert (seen.asked, seen.met) == (9, 4)
    b.weights[:] = 0
    log, ids = seen.likeliest(b)
    assert log.shape == ids.shape == (0, 4)


@settings(max_examples=20, deadline=None)
@given(some.integers(0, 400))
def test_a_torn_file_is_read_to_its_last_whole_record(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("rows")
    Remembered(teacher, 40, folder, 4, 1.0).likeliest(batch())
    (file,) = folder.glob("*.rows")
    whole, data = records(file, 16), file.read_bytes()
    file.write_bytes(data[: max(0, len(data) - cut)])
    left = records(file, 16)
    assert set(left.items()) <= set(whole.items()) and (len(left) == len(whole)) == (cut == 0)
    after = Remembered(teacher, 40, folder, 4, 1.0)
    log, ids = after.likeliest(batch())
    assert after.met == len(left) and len(log) == int((batch().weights > 0).sum()) and bool((ids < 40).all())


def test_the_loss_is_the_same_with_and_without_memory(tmp_path):
    b, student = batch(), Transformer(SHAPE, RNG)
    makers = (teacher, lambda: Remembered(teacher, 40, tmp_path, 8, 1.5), lambda: Remembered(never, 40, tmp_path, 8, 1.5))
    losses = [Distill(8, 1.5).terms({"net": student, "teacher": make()}, b, {}, RNG)["teacher"].item() for make in makers]
    assert losses[0] == pytest.approx(losses[1], rel=5e-3) and losses[1] == losses[2]


def test_an_aligned_teacher_is_the_teacher_with_its_tokens_renumbered():
    b, net = batch(), teacher()
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    other = teacher()
    with torch.no_grad():
        other.embed.weight[order] = net.embed.weight.clone()  # tied: the head follows
    found = Aligned(other, order)
    with torch.no_grad():
        one, two = (each.logits(each(b.inputs, b.positions, b.documents)) for each in (net, found))
    assert torch.allclose(one, two, atol=1e-4) and len(found.head_weight) == 40
