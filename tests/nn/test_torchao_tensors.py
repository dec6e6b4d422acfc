"""torchao's tensors in our own net: the same numbers, and what they cannot say."""

import copy

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.nn import torchao_tensors
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.packed import Packed
from bloomery.seams import Rng

torch.set_num_threads(1)
CFG = Config(vocab=70, width=64, layers=1, heads=4, kv_heads=2, ffn=96, context=64, qkv_bias=True)


def packed_of(rows: int, columns: int, bits: int, group: int, zeros: bool) -> Packed:
    draw, edge = torch.Generator().manual_seed(rows), 1 << (bits - 1)
    codes = torch.randint(-edge, edge, (rows, columns), generator=draw).to(torch.int8)
    zero = torch.randint(-edge, edge, (rows, columns // group), generator=draw).to(torch.int8) if zeros else None
    return Packed(codes, ((torch.rand(rows, columns // group, generator=draw) - 0.4) / edge).half(), zero, bits, group)


@pytest.mark.parametrize(("bits", "group", "zeros"), [(4, 32, False), (8, 32, False), (8, 0, False), (3, 16, True), (8, 32, True)])
def test_a_net_computes_the_same_with_them(bits, group, zeros):
    net = Transformer(CFG, Rng((7,))).eval()
    linears = {name: unit for name, unit in net.named_modules() if isinstance(unit, torch.nn.Linear) and name != "head"}
    packed = {name: packed_of(*unit.weight.shape, bits, group or unit.in_features, zeros) for name, unit in linears.items()}
    with torch.no_grad():
        for name, one in packed.items():
            linears[name].weight.copy_(one.dense())
            assert torchao_tensors.tensor(one).dequantize().equal(one.dense())
    placed = torchao_tensors.place(copy.deepcopy(net), packed)
    ids = torch.arange(40)[None]
    assert type(placed.blocks[0].mlp.down.weight.data).__name__ == ("Int8Tensor" if bits == 8 and not zeros else "IntxUnpackedToInt8Tensor")
    with torch.inference_mode():
        assert float((net.logits(net(ids)) - placed.logits(placed(ids))).abs().max()) < 1e-5


def test_what_they_cannot_say_is_refused():
    with pytest.raises(BadInput, match="torchao holds codes"):
        torchao_tensors.place(Transformer(CFG), {})
