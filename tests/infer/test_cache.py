import pytest
import torch

from bloomery.infer.cache import Cache
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)
NET = Transformer(Config(vocab=61, width=32, layers=3, heads=4, kv_heads=2, ffn=48, context=64), Rng((2,))).eval()
IDS = torch.randint(0, 61, (3, 40), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("cuts", [[40], [1] * 40, [13, 27], [5, 1, 1, 20, 13], [1, 39]])
@torch.inference_mode()
def test_tokens_in_any_portions_give_the_hidden_states_of_one_pass(cuts):
    cache, at, found = Cache(NET.cfg, 40, [0] * 3, torch.float32), 0, []
    for cut in cuts:
        found.append(NET(IDS[:, at : at + cut], cache=cache))
        at += cut
    torch.testing.assert_close(torch.cat(found, 1), NET(IDS), rtol=0, atol=3e-6)
    assert cache.used == 40


@pytest.mark.parametrize("cuts", [[40], [30, 10], [25, 1, 1, 10, 3]])
@torch.inference_mode()
def test_padded_rows_give_the_hidden_states_of_each_alone(cuts):
    padding = [0, 9, 24]
    cache, at, found = Cache(NET.cfg, 44, padding, torch.float32), 0, []
    for cut in cuts:
        found.append(NET(IDS[:, at : at + cut], cache=cache))
        at += cut
    found = torch.cat(found, 1)
    for row, pad in enumerate(padding):
        torch.testing.assert_close(found[row, pad:], NET(IDS[row : row + 1, pad:])[0], rtol=0, atol=3e-6)
    assert not found.isnan().any()


@torch.inference_mode()
def test_rows_can_be_dropped_on_the_way():
    cache = Cache(NET.cfg, 40, [0, 4, 7], torch.float32)
    NET(IDS[:, :30], cache=cache)
    cache.keep(torch.tensor([2]))
    after = NET(IDS[2:, 30:31], cache=cache)
    torch.testing.assert_close(after[0, 0], NET(IDS[2:, 7:31])[0, -1], rtol=0, atol=3e-6)


@torch.inference_mode()
def test_too_many_tokens_are_refused():
    cache = Cache(NET.cfg, 10, [0], torch.float32)
    with pytest.raises(ValueError, match="11 tokens do not fit"):
        NET(IDS[:1, :11], cache=cache)
    assert cache.used == 0
