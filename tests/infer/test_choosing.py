import pytest
import torch

from bloomery.infer.choosing import largest, likeliest

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("found", [likeliest, largest])
def test_the_likeliest_and_whether_it_is_a_number(found, dtype):
    logits = torch.tensor([[1.0, 3.0, 3.0], [1.0, NAN, INF], [-INF, -INF, -2.0], [-INF, -INF, -INF], [INF, 1.0, 2.0]], dtype=dtype)
    assert found(logits) == ([1, 1, 2, 0, 0], [True, False, True, False, False])
