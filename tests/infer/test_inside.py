import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.infer.inside import inside
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)
SHAPE = {"vocab": 61, "width": 32, "layers": 3, "heads": 4, "kv_heads": 2, "ffn": 48, "context": 40}
IDS = torch.randint(0, 61, (30,), generator=torch.Generator().manual_seed(0)).tolist()


@pytest.mark.parametrize(
    "changes", [{}, {"windows": (7, 0)}, {"score_cap": 2.0, "query_scalar": 9.0}, {"positions": "alibi", "kv_heads": 4}, {"causal": False}]
)
def test_attention_and_hidden_states_are_those_of_the_pass(changes):
    net = Transformer(Config(**{**SHAPE, **changes}), Rng((2,))).eval()
    found = inside(net, IDS)
    with torch.no_grad():
        torch.testing.assert_close(found.logits, net.logits(net(torch.tensor([IDS])))[0], rtol=0, atol=1e-5)
        assert len(found.hidden) == 4 and torch.equal(found.hidden[0], net.embed.weight[IDS])
        torch.testing.assert_close(net.logits(net.leave(found.hidden[-1])), found.logits, rtol=0, atol=1e-6)
        for block, x, weight in zip(net.blocks, found.hidden, found.attention, strict=False):
            torch.testing.assert_close(weight.sum(-1), torch.ones(4, 30))
            assert bool((weight.triu(1) == 0).all()) == net.cfg.causal
            v = block.mixer.split(block.mixer_norm(x)[None])[2][0].repeat_interleave(4 // net.cfg.kv_heads, dim=1)
            mixed = block.mixer.out(torch.einsum("hts,she->the", weight, v).flatten(1))
            after = x + mixed
            after = after + block.mlp(block.mlp_norm(after[None]))[0]
            torch.testing.assert_close(after, _after(found.hidden, x), rtol=0, atol=1e-5)
    assert all(block.mixer.across is None and not block._forward_pre_hooks for block in net.blocks)


def _after(hidden: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return hidden[next(i for i, one in enumerate(hidden) if one is x) + 1]


def test_nothing_cannot_be_looked_into():
    with pytest.raises(BadInput, match="one token or more"):
        inside(Transformer(Config(**SHAPE)), [])
