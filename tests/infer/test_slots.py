import pytest
import torch

from bloomery.infer.cache import Cache
from bloomery.infer.slots import Slots
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)
SHAPE = {"vocab": 61, "width": 32, "layers": 3, "heads": 4, "kv_heads": 2, "ffn": 48, "context": 80}
GPT2 = {
    "architecture": "gpt2", "norm": "layer", "positions": "learned", "gated": False, "activation": "gelu_tanh", "qkv_bias": True,
    "out_bias": True, "mlp_bias": True,
}  # fmt: skip
NETS = {
    "llama": Transformer(Config(**SHAPE), Rng((2,))).eval(),
    "qwen3": Transformer(Config(**SHAPE, qk_norm=True, head_width=16), Rng((2,))).eval(),
    "gpt2": Transformer(Config(**{**SHAPE, "kv_heads": 4}, **GPT2), Rng((2,))).eval(),
}
IDS = torch.randint(0, 61, (5, 80), generator=torch.Generator().manual_seed(0))


class Batch:
    """Rows of IDS, each fed its own tokens from wherever it is; `check` compares with the whole model."""

    def __init__(self, net, rows: int, **options) -> None:
        self.net, self.slots, self.who = net, Slots(net.cfg, rows, 80, torch.float32, **options), []

    def join(self, who: int, length: int, cut: int = 100) -> None:
        self.slots.begin()
        for at in range(0, length, cut):
            self.net(IDS[who : who + 1, at : min(at + cut, length)], cache=self.slots.reader)
        assert self.slots.join() == len(self.who)
        self.who.append(who)

    def leave(self, row: int) -> None:
        self.who[row] = self.who[self.slots.leave(row)]
        self.who.pop()

    def step(self) -> torch.Tensor:
        tokens = torch.zeros(self.slots.stepping, 1, dtype=torch.int64)
        for row, who in enumerate(self.who):
            tokens[row] = IDS[who, self.slots.lengths[row]]
        return self.net(tokens, cache=self.slots)[: len(self.who), 0]

    def check(self) -> None:
        found = self.step()
        for row, who in enumerate(self.who):
            want = self.net(IDS[who : who + 1, : self.slots.lengths[row]])[0, -1]
            torch.testing.assert_close(found[row], want, rtol=0, atol=5e-6)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@torch.inference_mode()
def test_rows_that_come_and_go_have_the_hidden_states_of_the_whole_model(net, exact):
    batch = Batch(net, 3, exact=exact)
    batch.join(0, 7)
    batch.check()
    batch.join(1, 40, cut=16)
    batch.join(2, 1)
    for _ in range(3):
        batch.check()
    batch.leave(0)  # the last row moves to its place
    batch.check()
    batch.join(3, 30)
    for _ in range(5):
        batch.check()
    for row in (2, 0, 0):
        batch.leave(row)
    batch.join(4, 78)
    batch.check()
    batch.check()
    assert batch.slots.lengths == [80] and batch.slots.room == 2


@torch.inference_mode()
def test_what_a_row_leaves_behind_reaches_nobody():
    batch = Batch(NETS["llama"], 2)
    batch.join(0, 60)
    batch.join(1, 50)
    batch.slots.values[:, 0, :, :60] = float("inf")  # weight 0 times infinity is no number
    batch.leave(0)
    batch.join(2, 5)
    batch.check()
    batch.leave(0)
    batch.leave(0)
    assert not batch.slots.keys[:, :, :, 1:].any() and not batch.slots.values[:, :, :, 1:].any()


@torch.inference_mode()
def test_clearing_frees_everything():
    batch = Batch(NETS["llama"], 2)
    batch.join(0, 9)
    batch.slots.values.fill_(float("nan"))
    batch.slots.clear()
    batch.who = []
    assert batch.slots.room == 2
    batch.join(1, 12)
    batch.check()


@torch.inference_mode()
def test_memory_is_allocated_once_and_limits_are_kept():
    batch = Batch(NETS["llama"], 1)
    place = batch.slots.keys.data_ptr()
    with pytest.raises(ValueError, match="each of 0 rows"):
        batch.net(IDS[:4, :1], cache=batch.slots)
    batch.join(0, 79)
    with pytest.raises(ValueError, match="all 1 rows are in use"):
        batch.slots.join()
    with pytest.raises(ValueError, match="not 2"):
        batch.net(IDS[:4, :2], cache=batch.slots)
    batch.step()
    with pytest.raises(ValueError, match="after 80"):
        batch.net(IDS[:4, :1], cache=batch.slots)
    assert batch.slots.keys.data_ptr() == place and isinstance(batch.slots.reader, Cache)


@pytest.mark.wide  # true of the kernels seen so far, promised by none
@torch.inference_mode()
def test_alone_and_in_company_the_last_bit_is_the_same():
    net, found = NETS["llama"], []
    for company in (0, 1, 3, 4):
        batch = Batch(net, 5)
        for who in range(company + 1):
            batch.join(who, 20 + 9 * who)
        found.append(torch.stack([batch.step()[0] for _ in range(20)]))
    assert all(torch.equal(one, found[0]) for one in found)
