"""Emulated fine-tuning on logits alone; several models per step are tested in tests/infer/test_joined.py."""

import pytest
import torch

from bloomery.methods.filter.eft import EFT


def logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(5, 40, generator=torch.Generator().manual_seed(seed))


def filtered(scale: float, net: torch.Tensor, expert: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    return EFT(scale).filter(None, {"logits:net": net, "logits:expert": expert, "logits:base": base})


def test_exact_the_formula_in_log_probabilities_and_the_expert_where_net_and_base_agree():
    net, expert, base = logits(0), logits(1), logits(2)
    assert filtered(1.0, base, expert, base).equal(expert)
    for scale in (-0.5, 0.0, 0.3, 1.0, 2.0):
        p = [x.double().softmax(-1) for x in (net, expert, base)]
        wanted = p[0] * (p[1] / p[2]) ** scale
        assert torch.allclose(filtered(scale, net, expert, base).double().softmax(-1), wanted / wanted.sum(-1, keepdim=True), atol=1e-6)


def test_property_the_tuned_model_minimizes_kl_to_the_net_less_the_small_reward():
    """The result is the best policy for the reward log expert/base under a KL bound to the net: no other row of shares scores higher."""
    net, expert, base = logits(3), logits(4), logits(5)
    reward = expert.log_softmax(-1) - base.log_softmax(-1)

    def value(p: torch.Tensor) -> torch.Tensor:
        return (p * (reward - (p.clamp(min=1e-30).log() - net.log_softmax(-1)))).sum(-1)

    best = filtered(1.0, net, expert, base).softmax(-1)
    for seed in range(20):
        other = (filtered(1.0, net, expert, base) + 0.3 * logits(10 + seed)).softmax(-1)
        assert (value(other) < value(best)).all()


def test_what_an_earlier_filter_took_out_stays_out_and_bad_knob():
    net = logits(0)
    net[:, 3] = float("-inf")
    assert (filtered(1.0, net, logits(1), logits(2))[:, 3] == float("-inf")).all()
    with pytest.raises(ValueError, match="scale must be a number"):
        EFT(float("inf"))


@pytest.mark.parametrize("scale", [-0.5, 0.0, 0.3, 1.0, 2.0])
def test_tokens_that_a_model_rules_out_give_no_nan(scale: float):
    plain = [logits(seed) for seed in range(3)]
    net, expert, base = (one.clone() for one in plain)
    net[:, 0] = expert[:, 1] = base[:, 2] = expert[:, 3] = base[:, 3] = float("-inf")
    found, wanted = filtered(scale, net, expert, base), filtered(scale, *plain)
    assert found[:, 4:].equal(wanted[:, 4:])
    assert (found[:, 0] == float("-inf")).all() and found[:, 2:4].equal(net[:, 2:4])
    assert (found[:, 1] == float("-inf")).all() if scale > 0 else found[:, 1].equal(net[:, 1])
