from __future__ import annotations

import pytest
import torch

from bloomery.num.clipping import clip_together


def test_all_gradients_together_are_made_as_long_as_allowed() -> None:
    grads = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]
    assert clip_together(grads, 0.0) == clip_together(grads, 6.0) == 5.0 and grads[0].item() == 3.0
    assert clip_together(grads, 1.0) == 5.0
    assert grads[0].item() == pytest.approx(0.6) and grads[1][0, 1].item() == pytest.approx(0.8)
