import pytest
import torch

from bloomery.infer.dense import Half, halves

torch.set_num_threads(1)


@pytest.mark.skipif(not halves(torch.bfloat16), reason="this processor has no bfloat16")
def test_blocks_are_the_weight():
    w, x = torch.randn(64, 128).bfloat16(), torch.randn(16, 128).bfloat16()
    unit = Half(w, torch.ones(64).bfloat16())
    assert torch.equal(unit.weight, w)
    torch.testing.assert_close(unit(x).float(), x.float() @ w.float().T + 1, rtol=0.01, atol=0.1)
    unit.plain()
    assert unit.blocks is None and torch.equal(unit.weight, w)
    torch.testing.assert_close(unit(x).float(), x.float() @ w.float().T + 1, rtol=0.01, atol=0.1)
