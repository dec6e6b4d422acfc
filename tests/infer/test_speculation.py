import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_engine import SEED, WARM, WORDS, Listener, ask, asks_of, idle, make, run

from bloomery.core.errors import BadInput
from bloomery.infer.asks import Ask
from bloomery.infer.engine import Engine
from bloomery.infer.filters import filtered
from bloomery.infer.model import sampling
from bloomery.infer.speculation import Draft, Lookup, PromptLookup, judge
from bloomery.methods.filter.eft import EFT
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)
NET = make()
SMALL = make(width=16, layers=1, heads=2, kv_heads=1)
REPEATING = "some more words and some more words and some more "


def near(net: Transformer, share: float) -> Transformer:
    """A model that is a little like another: the same weights and some noise."""
    other = make()
    with torch.no_grad():
        for name, p in other.named_parameters():
            p.copy_(net.get_parameter(name) + share * p.std() * torch.randn(p.shape, generator=torch.Generator().manual_seed(3)))
    return other


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 3), st.integers(0, 2))
def test_lookup_finds_what_followed_the_last_time(ids, shortest, more):
    how = PromptLookup(4, shortest + more, shortest)
    found = Lookup(how, ids).guess(3)
    want: list[int] = []
    for length in range(min(shortest + more, len(ids)), shortest - 1, -1):
        ends = [end for end in range(length, len(ids)) if ids[end - length : end] == ids[-length:]]
        if ends:
            want = ids[ends[-1] : ends[-1] + 3]
            break
    assert found == want


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("filters", [(), WARM], ids=["greedy", "sampled"])
def test_prompt_lookup_writes_what_plain_decoding_writes(filters, exact):
    asked = [*asks_of(filters), ask(REPEATING, limit=40, filters=filters, rng=SEED.child(9), logprobs=2)]
    with Engine(NET, WORDS, slots=4, queue=20, exact=exact) as engine:
        plain = [one.end() for one in run(engine, asked)]
    with Engine(NET, WORDS, slots=4, queue=20, exact=exact, guess=PromptLookup(3, 3, 1)) as engine:
        listeners = run(engine, asked)
        assert idle(engine) and engine.batch.stood > (0 if filters else 5)
        assert engine.batch.steps < sum(len(one.ids) for one in plain)
    for one, want in zip((one.end() for one in listeners), plain, strict=True):
        assert (one.text, one.ids, one.reason) == (want.text, want.ids, want.reason)
        for a, b in zip(one.tokens, want.tokens, strict=True):
            assert a.id == b.id and a.logp == pytest.approx(b.logp, abs=2e-5)


@pytest.mark.parametrize("draft", [SMALL, near(NET, 0.1), NET], ids=["unlike", "near", "itself"])
def test_greedy_text_is_the_same_with_a_draft(draft):
    with Engine(NET, WORDS, slots=3, queue=20) as engine:
        plain = [one.end() for one in run(engine, asks_of(()))]
    with Engine(NET, WORDS, slots=3, queue=20, guess=Draft(draft, 3)) as engine:
        drafted = [one.end() for one in run(engine, asks_of(()))]
        stood, guessed = engine.batch.stood, engine.batch.guessed
        assert idle(engine)
    assert [(one.text, one.ids, one.reason) for one in drafted] == [(one.text, one.ids, one.reason) for one in plain]
    assert guessed > 0 and (draft is not NET or stood > 0.9 * guessed - 8)


def test_a_drafted_sample_does_not_depend_on_company():
    with Engine(NET, WORDS, slots=4, queue=20, guess=Draft(near(NET, 0.3), 3)) as engine:
        together = [one.end().ids for one in run(engine, asks_of(WARM))]
        alone = [run(engine, [one])[0].end().ids for one in asks_of(WARM)]
    assert together == alone


def test_rejection_leaves_the_models_distribution():
    """Pairs of tokens against the chain rule, for a draft that is far from the model and rules tokens out."""
    draw = torch.Generator().manual_seed(0)
    p1, q1 = (torch.rand(4, generator=draw, dtype=torch.float64).softmax(-1) for _ in range(2))
    p2, q2 = (torch.rand(4, 4, generator=draw, dtype=torch.float64).mul(4).softmax(-1) for _ in range(2))
    q2[:, 1] = 0
    q2 /= q2.sum(-1, keepdim=True)
    p3 = torch.full((4,), 0.25, dtype=torch.float64)
    tries, count = 12000, torch.zeros(4, 4)
    numbers = torch.rand(tries, 8, generator=draw, dtype=torch.float64)
    for u in numbers.tolist():
        first = int(torch.searchsorted(q1.cumsum(0), u[0] * 0.999999))
        second = int(torch.searchsorted(q2[first].cumsum(0), u[1] * 0.999999, right=True))
        stand, after = judge([first, second], torch.stack([p1, p2[first], p3]), torch.stack([q1, q2[first]]), u[2:4], u[4:7])
        pair = [*[first, second][:stand], after]
        if len(pair) == 1:
            pair.append(int(torch.searchsorted(p2[pair[0]].cumsum(0), u[7] * 0.999999)))
        count[pair[0], pair[1]] += 1
    want = p1[:, None] * p2
    chi = ((count - tries * want) ** 2 / (tries * want)).sum()
    assert chi < 37.7  # 15 degrees of freedom: one in a thousand


@pytest.mark.parametrize("draft", [SMALL, near(NET, 0.3)], ids=["unlike", "near"])
def test_samples_through_the_engine_have_the_models_distribution(draft):
    prompt, filters = tuple(WORDS.encode("some").ids), sampling(1.0, top_k=3)
    asked = [Ask(prompt, 3, filters, Rng((i, "chi"))) for i in range(1200)]
    with Engine(NET, WORDS, slots=60, queue=1200, exact=False, guess=Draft(draft, 2)) as engine:
        found = [one.end().ids for one in run(engine, asked)]
        assert 0 < engine.batch.stood < engine.batch.guessed
    want: dict[tuple[int, ...], float] = {(): 1.0}
    with torch.inference_mode():
        for _ in range(3):
            grown = {}
            for ids, share in want.items():
                p = filtered(NET.logits(NET(torch.tensor([[*prompt, *ids]]))[:, -1]), None, filters).softmax(-1)[0]
                grown |= {(*ids, int(token)): share * float(p[token]) for token in p.nonzero()[:, 0]}
            want = grown
    assert set(found) <= set(want)
    large = [ids for ids, share in want.items() if share * len(found) >= 5]
    chi = sum((found.count(ids) - len(found) * want[ids]) ** 2 / (len(found) * want[ids]) for ids in large)
    assert chi < len(large) + 3.3 * (2 * len(large)) ** 0.5


def test_speculation_ends_where_the_context_does():
    for guess in (PromptLookup(4, 2, 1), Draft(NET, 4)):
        with Engine(NET, WORDS, slots=2, guess=guess) as engine:
            ends = [one.end() for one in run(engine, [Ask((5, 6) * 40, limit=50), Ask((7,) * 3, limit=93)])]
            assert [len(one.ids) for one in ends] == [16, 93] and idle(engine)
    learned = make(positions="learned")
    with Engine(learned, WORDS, slots=2, guess=PromptLookup(4, 2, 1)) as engine:
        assert len(run(engine, [Ask((5, 6) * 40, limit=50)])[0].end().ids) == 16


def test_other_models_step_along_for_the_filters_that_read_them():
    filters = (EFT(), *sampling(0.8))
    others = {"expert": near(NET, 0.5), "base": near(NET, 0.2)}
    asked = [ask(p, limit=12, filters=filters, rng=SEED.child(i)) for i, p in enumerate(("some", "words and", REPEATING, "x" * 30))]
    found = {}
    for exact, guess in itertools.product((True, False), (None, PromptLookup(3, 2, 1))):
        with Engine(NET, WORDS, slots=3, queue=9, exact=exact, guess=guess, others=others) as engine:
            found[exact, guess] = [one.end().ids for one in run(engine, asked)]
    assert len(set(map(tuple, found.values()))) == 1
    from bloomery.infer.decoder import Decoder

    decoder = Decoder(NET, WORDS, [2], others)
    for i, one in enumerate(asked):
        assert decoder.generate([list(one.prompt)], 12, filters, rng=[SEED.child(i)])[0].ids == found[True, None][i]


def test_what_cannot_be_is_refused():
    with pytest.raises(BadInput, match="from 1 to 15"):
        PromptLookup(16)
    with pytest.raises(BadInput, match="shortest must be"):
        PromptLookup(2, 1, 2)
    with pytest.raises(BadInput, match="the model called draft knows 271 tokens"):
        Engine(NET, WORDS, guess=Draft(make(vocab=271)))
    with pytest.raises(BadInput, match="pages must be at least 6"):
        Engine(NET, WORDS, pages=5)
    with Engine(NET, WORDS) as engine, pytest.raises(BadInput, match="EFT reads the logits of a model called expert"):
        engine.submit([ask("x", filters=(EFT(),))], [Listener()])


def test_a_filter_that_fails_beside_a_draft_fails_alone():
    class Broken:
        reads = ("logits:net",)

        def filter(self, tokens_BT, seen):
            if len(seen["logits:net"]) != 1 or len(calls) > 3:
                raise ArithmeticError("no")
            calls.append(1)
            return seen["logits:net"]

    calls: list[int] = []
    asked = [ask("some", limit=40, stop_ids=frozenset()), ask("x", limit=40, filters=(Broken(),), stop_ids=frozenset())]
    with Engine(NET, WORDS, slots=4, queue=4, guess=Draft(SMALL, 3)) as engine:
        fine, odd = [one.end() for one in run(engine, asked)]
        assert idle(engine)
    with Engine(NET, WORDS, slots=4) as plain:
        assert fine.ids == run(plain, asked[:1])[0].end().ids
    assert odd.reason == "failed" and "ArithmeticError in the filters" in odd.error
