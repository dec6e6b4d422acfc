import pytest
import torch
from paged import in_portions

from bloomery.infer.cache import Reading, Step
from bloomery.infer.slots import Slots
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)
NET = Transformer(Config(vocab=61, width=32, layers=3, heads=4, kv_heads=2, ffn=48, context=64), Rng((2,))).eval()
IDS = torch.randint(0, 61, (3, 40), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("begins", [[0, 0, 0], [0, 9, 24]])
@pytest.mark.parametrize("cuts", [[40], [30, 10], [27, 13], [25, 1, 1, 10, 3]])
@torch.inference_mode()
def test_tokens_in_any_portions_give_the_hidden_states_of_one_pass(cuts, begins):
    found = in_portions(NET, IDS, cuts, begins)
    for row, begin in enumerate(begins):
        torch.testing.assert_close(found[row], NET(IDS[row : row + 1, begin:])[0], rtol=0, atol=3e-6)


@torch.inference_mode()
def test_other_tokens_than_there_is_room_for_are_refused():
    slots = Slots(NET.cfg, 1, 40, torch.float32, exact=False)
    lease = slots.open([1] * 5, 40)
    with pytest.raises(ValueError, match="11 tokens for parts of 5 in all"):
        NET(IDS[:1, :11], cache=Reading(slots, [(lease, 0, 5)]))
    NET(IDS[:1, :5], cache=Reading(slots, [(lease, 0, 5)]))
    slots.join(lease, 5)
    with pytest.raises(ValueError, match="a step of 2 tokens for each row, not 3"):
        NET(IDS[:1, :3], cache=Step(slots, slots.memory, slots.begin(2), 2))
    assert slots.lengths == [5]
