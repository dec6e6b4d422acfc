import mmap

import pytest
import torch
from small_engine import make

from bloomery.infer.large_pages import APART, LARGE, held, in_large_pages

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


def test_where_there_are_none_nothing_moves(monkeypatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    net = make(context=48)
    at = [one.data_ptr() for one in held(net)]
    assert in_large_pages(net) == 0 and [one.data_ptr() for one in held(net)] == at
