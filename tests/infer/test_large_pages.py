import gc
import mmap
from copy import deepcopy

import numpy as np
import pytest
import torch
from small_engine import make

from bloomery.infer import large_pages
from bloomery.infer.large_pages import APART, LARGE, ROOMS, held, in_large_pages

linux = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="only Linux has large pages of this kind")


@linux
def test_a_network_moves_as_it_is():
    net = make(context=48, tied=True)
    net.register_buffer("turned", torch.randn(6, 4).T)
    net.parts = net.turned[1:, ::2]
    before = {id(one): (one.clone(), one.stride(), type(one), one.requires_grad) for one in held(net)}
    places = {id(one): one.data_ptr() for one in held(net)}
    rows = torch.tensor([[5, 9, 11]])
    with torch.no_grad():
        logits = net.logits(net(rows))
    least = sum(one.nbytes for one in net.parameters())
    assert least <= in_large_pages(net) < 1.5 * least
    for one in held(net):
        was, stride, kind, grad = before[id(one)]
        assert torch.equal(one, was) and (one.stride(), type(one), one.requires_grad) == (stride, kind, grad)
        assert one.data_ptr() != places[id(one)]
    starts = sorted(one.untyped_storage().data_ptr() for one in held(net))
    assert len(set(starts)) == 1  # one piece, which begins with a large page but for what comes before it
    first = min(one.data_ptr() for one in held(net))
    assert first % LARGE == 0 and all((one.data_ptr() - first) % APART == 0 for one in net.parameters())
    with torch.no_grad():
        assert torch.equal(net.logits(net(rows)), logits)
        net.turned[1, 0] = 7.0
    assert net.parts[0, 0] == 7.0


@linux
def test_a_small_part_of_a_larger_memory_stays():
    net = torch.nn.Linear(4, 4)
    whole = torch.randn(1000, 4)
    net.weight = torch.nn.Parameter(whole[:4])
    at = net.weight.data_ptr()
    assert in_large_pages(net) == APART  # the bias alone
    assert net.weight.data_ptr() == at


@linux
def test_what_was_moved_stays_for_whoever_reads_it(monkeypatch):
    monkeypatch.setattr(large_pages, "LARGE", APART)  # so that a small network fills its memory
    net = make(context=48)
    assert in_large_pages(net) > 0
    other = deepcopy(net, {id(one): one for name, one in net.named_parameters() if "attn" in name})
    at = {name: one.data_ptr() for name, one in net.named_parameters()}
    own = sum(one.nbytes for name, one in net.named_parameters() if "attn" not in name)
    assert in_large_pages(net) == 0 and own <= in_large_pages(other) < own + APART * len(at)
    assert {name: one.data_ptr() for name, one in net.named_parameters()} == at


@linux
def test_memory_goes_with_the_last_tensor_in_it():
    before = set(ROOMS)
    net = make(context=48)
    in_large_pages(net)
    last = net.embed.weight.detach()
    (room,) = set(ROOMS) - before
    del net
    gc.collect()
    assert room in ROOMS
    del last
    assert room not in ROOMS


@linux
def test_memories_of_unequal_length_that_begin_at_one_place():
    whole, net = np.arange(40, dtype=np.float32), torch.nn.Module()
    net.first, net.whole = torch.from_numpy(whole[:30]), torch.from_numpy(whole)
    net.other = torch.ones(40)
    in_large_pages(net)
    assert net.first.tolist() == list(range(30)) and net.whole.tolist() == list(range(40)) and bool((net.other == 1).all())
    net.whole[0] = 7.0
    assert net.first[0] == 7.0 and whole[0] == 0.0


@linux
def test_tensors_made_without_a_memory_of_gradients_move_too():
    with torch.inference_mode():
        net = torch.nn.Linear(4, 4)
        was = net.weight.clone()
        assert in_large_pages(net) == 2 * APART
        assert torch.equal(net.weight, was)
    normal = torch.nn.Linear(4, 4)
    was = normal.weight.detach().clone()
    for one, mode in ((net, False), (normal, True)):
        with torch.inference_mode(mode):
            in_large_pages(one)
    assert torch.equal(normal.weight, was) and normal.weight.requires_grad and not normal.weight.is_inference()
    normal(torch.ones(1, 4)).sum().backward()
    assert normal.weight.grad is not None


def test_where_there_are_none_nothing_moves(monkeypatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    net = make(context=48)
    at = [one.data_ptr() for one in held(net)]
    assert in_large_pages(net) == 0 and [one.data_ptr() for one in held(net)] == at
