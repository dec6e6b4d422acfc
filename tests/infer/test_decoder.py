import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.infer.decoder import Decoder
from bloomery.infer.filters import draw_tokens
from bloomery.methods.filter.temperature import Temperature
from bloomery.methods.filter.top_k import TopK
from bloomery.methods.filter.top_p import TopP
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)


class Letters:
    """One letter per token: 'a' is 0."""

    def encode(self, text):
        return type("Encoding", (), {"ids": [ord(c) - 97 for c in text]})

    def token_to_id(self, text):
        return ord(text) - 97 if len(text) == 1 else None

    def decode(self, ids, skip_special_tokens=True):
        return "".join(chr(97 + i) for i in ids)


def make(context: int = 48, **changes) -> Transformer:
    shape = {"vocab": 26, "width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 48, "context": context}
    net = Transformer(Config(**{**shape, **changes}), Rng((4,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(6.0) if p.dim() > 1 else None
    return net.eval()


NET = make()
DECODER = Decoder(NET, Letters())
PROMPTS = ["bloom", "a", "ironandsteelandcoal", "zz", "hammer", "bellowsbellows", "q"]
SAMPLED = (Temperature(1.3), TopK(20), TopP(0.95))


def by_hand(prompt: str, limit: int) -> list[int]:
    ids = [ord(c) - 97 for c in prompt]
    for _ in range(limit):
        ids.append(NET.logits(NET(torch.tensor([ids]))[0, -1]).argmax().item())
    return ids[len(prompt) :]


@torch.inference_mode()
def test_greedy_is_the_argmax_of_the_whole_model_each_time():
    for prompt, found in zip(PROMPTS, DECODER.generate(PROMPTS, 20), strict=True):
        assert list(found.ids) == by_hand(prompt, 20)
        assert found.ended == "limit" and found.text == Letters().decode(found.ids)


@pytest.mark.parametrize("filters", [(), SAMPLED])
@pytest.mark.parametrize("rows", [1, 2, 32])
def test_a_completion_does_not_depend_on_its_neighbours(filters, rows):
    together = DECODER.generate(PROMPTS, 25, filters, stop=["e", "xy"], rows=rows)
    reference = DECODER.generate(PROMPTS, 25, filters, stop=["e", "xy"], rows=3)
    assert together == reference
    assert len({len(one.ids) for one in together}) > 1  # rows that ended at different times were dropped on the way
    assert DECODER.generate(PROMPTS[:1], 25, filters, stop=["e", "xy"]) == together[:1]


def test_where_nothing_may_depend_on_company_the_head_too_reads_as_many_rows_as_the_network(monkeypatch):
    """A product of fewer rows is summed in another order: of each step's four rows all are given to the head."""
    net, seen = make(), []
    logits = net.logits
    monkeypatch.setattr(net, "logits", lambda hidden: seen.append(hidden.shape[0]) or logits(hidden))
    Decoder(net, Letters()).generate(["bloom", "x"], 6, rows=1)
    assert {count for count in seen if count != 1} == {4} and seen.count(4) == 10  # first tokens come of one row each
    seen.clear()
    Decoder(net, Letters()).generate(["bloom"], 6)
    assert set(seen) == {1}


@pytest.mark.wide  # true of the kernels seen so far, promised by none
@pytest.mark.parametrize("length", [60, 130, 362])
def test_alone_and_in_company_log_probabilities_are_the_same_to_the_last_bit(length):
    net = make(400)
    ids = torch.randint(0, net.cfg.vocab, (6, length), generator=torch.Generator().manual_seed(0)).tolist()
    prompts = [one[: length - 5 * i] for i, one in enumerate(ids)]
    found = [[one.logp for one in Decoder(net, Letters()).generate(prompts, 30, rows=rows, logp=True)] for rows in (1, 2, 6)]
    assert found[1] == found[0] and found[2] == found[0]


def test_the_seed_decides_a_sample():
    one, same, other = (DECODER.generate(PROMPTS, 25, SAMPLED, rng=Rng((seed,))) for seed in (1, 1, 2))
    assert one == same and one != other
    assert DECODER.generate(PROMPTS, 25, (Temperature(0.0),)) == DECODER.generate(PROMPTS, 25)


def test_draws_follow_the_filtered_distribution():
    logits = torch.tensor([[2.0, 0.0, 1.0, -1.0, 3.0]])
    filters = (Temperature(0.7), TopK(3))
    want = filters[1].filter(None, {"logits:net": logits / 0.7}).softmax(-1)[0]
    n = 20000
    u = torch.rand(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    share = torch.bincount(draw_tokens(logits.expand(n, -1), None, filters, u), minlength=5) / n
    assert share[1] == share[3] == 0
    assert ((share - want).abs() < 4 * (want * (1 - want) / n).sqrt() + 1e-9).all()
    edges = torch.tensor([[0.0], [1 - 2**-53]], dtype=torch.float64)
    assert draw_tokens(logits.expand(2, -1), None, filters, edges).tolist() == [0, 4]


def test_a_filter_sees_the_tokens_so_far():
    class Recorder:
        reads = ("logits:net", "tokens")
        seen: list = []

        def filter(self, tokens_BT, seen):
            self.seen.append(tokens_BT.tolist())
            return seen["logits:net"]

    found = DECODER.generate(["abc", "q"], 3, (Recorder(), Temperature(0.0)))
    want = [[*prompt, *one.ids[:i]] for prompt, one in zip(([0, 1, 2], [16]), found, strict=True) for i in range(3)]
    assert sorted(tokens for (tokens,) in Recorder.seen) == sorted(want)


def test_stop_strings_and_end_tokens():
    whole = DECODER.generate(["bloom"], 20)[0]
    word = whole.text[7:9]
    found = DECODER.generate(["bloom"], 20, stop=["@", word])[0]
    assert found.ended == "stop" and found.text == whole.text[: whole.text.index(word)]
    assert found.ids == whole.ids[: whole.text.index(word) + 2]
    ended = Decoder(NET, Letters(), [whole.ids[3]]).generate(["bloom"], 20)[0]
    assert ended.ended == "stop" and ended.ids == whole.ids[: whole.ids.index(whole.ids[3]) + 1]


@pytest.mark.parametrize("stop", [[], ["e", "xy"]])
@pytest.mark.parametrize("filters", [(), SAMPLED])
def test_a_stream_joined_is_the_completion(filters, stop):
    for prompt in PROMPTS:
        pieces = list(DECODER.stream(prompt, 25, filters, stop))
        assert "".join(pieces) == DECODER.generate([prompt], 25, filters, stop)[0].text
        assert "" not in pieces


@torch.inference_mode()
def test_log_probabilities_are_those_of_the_model():
    found = DECODER.generate(["bloom"], 10, SAMPLED, logp=True)[0]
    ids = torch.tensor([[1, 11, 14, 14, 12, *found.ids]])
    want = NET.logits(NET(ids))[0, 4:-1].log_softmax(-1).gather(-1, ids[0, 5:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(found.logp), want, rtol=0, atol=1e-4)


def test_a_long_prompt_keeps_its_end_and_the_context_is_never_exceeded():
    text = "abcdefghij" * 10
    found = DECODER.generate([text, "abc"], 40)
    assert found[0].dropped == 100 - 24 and len(found[0].ids) == 24  # context 48: half of it for the completion
    assert found[1].dropped == 0 and len(found[1].ids) == 40
    assert found[0].ids == DECODER.generate([text[-24:]], 24)[0].ids
    assert len(DECODER.generate(["abc"], 100)[0].ids) == 45


def test_bad_prompts_are_refused():
    with pytest.raises(BadInput, match="prompt 2 holds no tokens"):
        DECODER.generate(["a", ""])
    with pytest.raises(BadInput, match="at least 1"):
        DECODER.generate(["a"], 0)
    assert DECODER.generate([]) == []


def test_bf16_runs_and_agrees_with_itself():
    decoder = Decoder(make().bfloat16(), Letters())
    assert decoder.generate(PROMPTS, 12) == decoder.generate(PROMPTS, 12)


@pytest.mark.parametrize("width", [1, 2])
def test_a_reasoning_trace_is_no_part_of_the_text_and_no_stop_string_counts_within_it(width):
    held, rngs = 0, [Rng((i, "own")) for i in range(len(PROMPTS))]
    for prompt, rng, plain in zip(PROMPTS, rngs, DECODER.generate(PROMPTS, 25, SAMPLED, rng=rngs), strict=True):
        text = plain.text
        at = next((k for k in range(4, 20) if text.count(text[k : k + width]) == 1), None)
        if at is None:
            continue
        mark, held = text[at : at + width], held + 1
        found = DECODER.generate([prompt], 25, SAMPLED, rng=[rng], thought=mark)[0]
        assert (found.ids, found.text, found.thought) == (plain.ids, text[at + width :], at + width)
        cut = DECODER.generate([prompt], 25, SAMPLED, [text[0]], [rng], thought=mark)[0]
        assert (cut.text, cut.thought) == (text[at + width :].partition(text[0])[0], at + width)
    assert held > 2
    never = DECODER.generate(PROMPTS, 25, stop=["e"], thought="%%%")
    assert [one.text for one in never] == [one.text.partition("e")[0] for one in DECODER.generate(PROMPTS, 25)]
    assert all(one.thought == 0 for one in never), "where no trace ends, all of it is the answer"
