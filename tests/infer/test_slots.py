import pytest
import torch

from bloomery.infer.cache import Reading, Step
from bloomery.infer.pages import NOTHING, PAGE, SCRATCH
from bloomery.infer.slots import CHUNK, PORTION, Slots
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
    "windows": Transformer(Config(**SHAPE, windows=(20,)), Rng((2,))).eval(),
    "mixed windows": Transformer(Config(**SHAPE, windows=(20, 0)), Rng((2,))).eval(),
    "capped": Transformer(Config(**SHAPE, windows=(0, 9), score_cap=3.0, query_scalar=11.0), Rng((2,))).eval(),
}
IDS = torch.randint(0, 61, (5, 80), generator=torch.Generator().manual_seed(0))
FAR = torch.randint(0, 61, (3, 400), generator=torch.Generator().manual_seed(1))


class Running:
    """Rows of IDS, each fed its own tokens from wherever it is; `check` compares with the whole model."""

    def __init__(self, net, rows: int, slots: int = 80, ids: torch.Tensor = IDS, **options) -> None:
        self.net, self.slots, self.ids, self.who = net, Slots(net.cfg, rows, slots, torch.float32, **options), ids, []

    def read(self, *parts) -> torch.Tensor:
        """Hidden states of (lease, who, start, stop)."""
        tokens = torch.cat([self.ids[who, start:stop] for _, who, start, stop in parts])[None]
        return self.net(tokens, cache=Reading(self.slots, [(lease, start, stop) for lease, _, start, stop in parts]))[0]

    def join(self, who: int, length: int, cut: int = 1000) -> None:
        ids = self.ids[who].tolist()
        lease = self.slots.open(ids[:length], len(ids))
        for at in range(lease.shared, length, cut):
            self.read((lease, who, at, min(at + cut, length)))
        self.slots.book.remember(lease, ids, length)
        assert self.slots.join(lease, length) == len(self.who)
        self.who.append(who)

    def leave(self, row: int) -> None:
        last = self.slots.leave(row, self.ids[self.who[row]].tolist())
        self.who[row] = self.who[last]
        self.who.pop()

    def step(self, length: int = 1) -> torch.Tensor:
        tokens = torch.zeros(self.slots.stepping, length, dtype=torch.int64)
        for row, who in enumerate(self.who):
            tokens[row] = self.ids[who, self.slots.lengths[row] : self.slots.lengths[row] + length]
        pages = self.slots.begin(length)
        found = self.net(tokens, cache=Step(self.slots, self.slots.memory, pages, length))[: len(self.who)]
        self.slots.end(length)
        return found

    def check(self, length: int = 1) -> None:
        found = self.step(length)
        for row, who in enumerate(self.who):
            want = self.net(self.ids[who : who + 1, : self.slots.lengths[row]])[0, -length:]
            torch.testing.assert_close(found[row], want, rtol=0, atol=5e-6)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@torch.inference_mode()
def test_rows_that_come_and_go_have_the_hidden_states_of_the_whole_model(net, exact):
    batch = Running(net, 3, exact=exact)
    batch.join(0, 7)
    batch.check()
    batch.join(1, 40, cut=16)
    batch.join(2, 1)
    for _ in range(3):
        batch.check()
    batch.leave(0)  # the last row moves to its place
    batch.check()
    batch.join(3, 30)
    for length in (1, 3, 1, 5, 1):
        batch.check(length)
    for row in (2, 0, 0):
        batch.leave(row)
    batch.join(4, 78)
    batch.check()
    batch.check()
    assert batch.slots.lengths == [80] and batch.slots.room == 2


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
@torch.inference_mode()
def test_prompts_read_in_one_pass_have_the_hidden_states_of_each_alone(net):
    batch = Running(net, 3)
    leases = [batch.slots.open([], 80) for _ in range(3)]
    for cuts in (((0, 0, 5), (1, 0, 40), (2, 0, 1)), ((0, 5, 44), (2, 1, 3)), ((2, 3, 70), (1, 40, 41), (0, 44, 60))):
        found = batch.read(*((leases[who], who, start, stop) for who, start, stop in cuts))
        want = torch.cat([net(IDS[who : who + 1, :stop])[0, start:] for who, start, stop in cuts])
        torch.testing.assert_close(found, want, rtol=0, atol=5e-6)


@torch.inference_mode()
def test_shared_beginnings_are_read_once_and_change_nothing():
    net, ids = NETS["llama"], IDS.clone()
    ids[1, :50] = ids[0, :50]
    batch = Running(net, 3, exact=False, ids=ids)
    batch.join(0, 60)
    held = batch.slots.book.held
    batch.join(1, 60)
    assert batch.slots.book.held - held == 1 and batch.slots.book.reused == 48
    for _ in range(3):
        batch.check()
    batch.leave(0)
    batch.check()
    batch.join(0, 61)  # 60 tokens and the steps after them are still there
    assert batch.slots.book.reused == 96
    batch.check()


@torch.inference_mode()
def test_exact_rows_share_only_what_is_read_in_the_same_portions():
    batch = Running(NETS["llama"], 2, slots=400, ids=FAR)
    batch.join(0, 300, cut=CHUNK)
    batch.join(0, 300, cut=CHUNK)
    assert batch.slots.leases[1].shared == 2 * CHUNK
    found = batch.step()
    assert torch.equal(found[0], found[1])


@torch.inference_mode()
def test_memory_grows_by_pages_and_windows_give_them_back():
    whole, window = Running(NETS["llama"], 8, slots=400, ids=FAR), Running(NETS["windows"], 8, slots=400, ids=FAR)
    assert whole.slots.nbytes == 2 * whole.slots.memory.page_bytes
    for batch, most in ((whole, 24), (window, 4)):
        batch.join(0, 16)
        for _ in range(350):
            batch.step()
        assert batch.slots.book.held == -(-366 // PAGE) if most == 24 else batch.slots.book.held <= most
        batch.check()
    assert window.slots.leases[0].pages[0] == NOTHING and window.slots.nbytes < 0.2 * whole.slots.memory.page_bytes * 8 * 25


@torch.inference_mode()
def test_prompts_far_longer_than_a_window_are_read_in_whole_portions():
    ids = torch.randint(0, 61, (1, 3 * PORTION), generator=torch.Generator().manual_seed(2))
    for start in (0, 5):
        batch = Running(NETS["windows"], 1, slots=3 * PORTION, ids=ids, exact=False)
        lease = batch.slots.open(ids[0].tolist(), 3 * PORTION)
        for at in (0, *range(start or PORTION, 3 * PORTION, PORTION)):
            stop = min(start if at == 0 and start else at + PORTION, 3 * PORTION - 8)
            found = batch.read((lease, 0, at, stop))
            assert batch.slots.book.held <= -(-(20 + PORTION) // PAGE) + 1
        torch.testing.assert_close(found, batch.net(ids[:, :stop])[0, -len(found) :], rtol=0, atol=5e-6)
        batch.slots.join(lease, stop)
        batch.who = [0]
        for length in (1, 3, 1):
            batch.check(length)


@torch.inference_mode()
def test_what_a_row_leaves_behind_reaches_nobody():
    batch = Running(NETS["llama"], 2, share=False)
    batch.join(0, 60)
    batch.join(1, 50)
    pages = batch.slots.leases[0].pages
    for values in batch.slots.memory.values:
        values[pages] = float("inf")  # weight 0 times infinity is no number
    batch.leave(0)
    batch.join(2, 5)
    batch.check()
    for _ in range(20):
        batch.check()


@torch.inference_mode()
def test_idle_rows_write_where_nobody_reads():
    batch = Running(NETS["llama"], 2)
    batch.join(0, 9)
    for _ in range(3):
        batch.step()
    memory = batch.slots.memory
    assert all(one[SCRATCH].any() and not one[NOTHING].any() for one in (*memory.keys, *memory.values))


@torch.inference_mode()
def test_clearing_frees_everything():
    batch = Running(NETS["llama"], 2)
    batch.join(0, 9)
    for one in (*batch.slots.memory.keys, *batch.slots.memory.values):
        one.fill_(float("nan"))
    batch.slots.clear()
    batch.who = []
    assert batch.slots.room == 2
    batch.join(1, 12)
    batch.check()


@torch.inference_mode()
def test_tokens_that_do_not_count_are_forgotten():
    batch = Running(NETS["llama"], 2)
    batch.join(0, 30)
    batch.join(1, 14)
    batch.who = [2, 3]  # wrong tokens
    batch.step(5)
    batch.slots.back(0, 5)
    batch.slots.back(1, 5)
    batch.who = [0, 1]
    batch.check()


@torch.inference_mode()
def test_limits_are_kept():
    batch = Running(NETS["llama"], 1)
    place = batch.slots.memory.keys[0].data_ptr()
    with pytest.raises(ValueError, match="each of 0 rows"):
        batch.slots.begin(1)
    batch.join(0, 79)
    with pytest.raises(ValueError, match="all 1 rows are in use"):
        batch.slots.join(batch.slots.leases[0], 3)
    with pytest.raises(ValueError, match="after 79"):
        batch.slots.begin(2)
    assert batch.slots.open([1], 80) is None
    batch.step()
    with pytest.raises(ValueError, match="after 80"):
        batch.slots.begin(1)
    assert batch.slots.memory.keys[0].data_ptr() == place


@pytest.mark.wide  # true of the kernels seen so far, promised by none
@torch.inference_mode()
def test_alone_and_in_company_the_last_bit_is_the_same():
    net, found = NETS["llama"], []
    for company in (0, 1, 3, 4):
        batch = Running(net, 5)
        for who in range(company + 1):
            batch.join(who, 20 + 9 * who)
        found.append(torch.stack([batch.step()[0] for _ in range(20)]))
    assert all(torch.equal(one, found[0]) for one in found)
