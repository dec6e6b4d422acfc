"""Classifier-free guidance on logits alone; two prompts in one step are tested in tests/infer/test_guidance.py."""

import pytest
import torch

from bloomery.methods.filter.guidance import Guidance


def logits(seed: int) -> torch.Tensor:
    return 3 * torch.randn(5, 40, generator=torch.Generator().manual_seed(seed))


def guided(scale: float, net: torch.Tensor, without: torch.Tensor) -> torch.Tensor:
    return Guidance(scale).filter(None, {"logits:net": net, "logits:without": without})


def test_exact_the_formula_in_probabilities_and_the_model_alone_at_scale_1():
    net, without = logits(0), logits(1)
    assert guided(1.0, net, without).equal(net)
    for scale in (0.0, 0.5, 2.0, 3.0):
        p, q = net.double().softmax(-1), without.double().softmax(-1)
        wanted = q * (p / q) ** scale
        assert torch.allclose(guided(scale, net, without).double().softmax(-1), wanted / wanted.sum(-1, keepdim=True), atol=1e-6)


def test_property_what_the_prompt_makes_likelier_gains_with_the_scale():
    """The mean of log p(token | prompt) - log p(token), what a token says of the prompt, rises with the scale."""
    net, without = logits(2), logits(3)
    says = net.log_softmax(-1) - without.log_softmax(-1)
    told = torch.stack([(guided(scale, net, without).softmax(-1) * says).sum(-1) for scale in (0.0, 0.5, 1.0, 2.0, 4.0)])
    assert (told.diff(dim=0) > 0).all()


def test_tokens_that_are_ruled_out_give_no_nan_and_bad_knob():
    net, without = logits(4), logits(5)
    plain = guided(2.0, net, without)
    net[:, 0] = without[:, 0] = net[:, 1] = without[:, 2] = float("-inf")
    found = guided(2.0, net, without)
    assert (found[:, :2] == float("-inf")).all()
    assert found[:, 2:3].equal(net[:, 2:3])
    assert found[:, 3:].equal(plain[:, 3:])
    with pytest.raises(ValueError, match="scale must be a number"):
        Guidance(float("nan"))
