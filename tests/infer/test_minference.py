"""Sparse reading of prompts: all columns are full attention, columns and counts are those of a mask, and what is found fits the text."""

import pytest
import torch
from small_engine import PROMPTS, SEED, WORDS, answers, ask, asks_of, make

from bloomery.core.errors import BadInput
from bloomery.infer.engine import Engine
from bloomery.infer.minference import BLOCK, Guess, Pattern, Patterns, SparsePrefill, attend_columns, counted, read, search

torch.set_num_threads(1)
ALL = {
    "a_shape": Pattern("a_shape", 0, 1000), "vertical_slash": Pattern("vertical_slash", 1000, 0),
    "diagonals": Pattern("vertical_slash", 0, 1000), "block_sparse": Pattern("block_sparse", 1000),
}  # fmt: skip
FEW = {"a_shape": Pattern("a_shape", 5, 20), "vertical_slash": Pattern("vertical_slash", 9, 7), "block_sparse": Pattern("block_sparse", 1)}


def heads(T: int, S: int, K: int = 2, group: int = 2, E: int = 8):
    made = torch.Generator().manual_seed(T * S)
    return torch.randn(K * group, T, E, generator=made), *(torch.randn(K, S, E, generator=made) for _ in range(2))


def masked(q, k, v, seen_HTS, scale, cap=0.0):
    """Attention through a mask."""
    k, v = (one.repeat_interleave(len(q) // len(one), 0) for one in (k, v))
    scores = (q @ k.transpose(1, 2)) * scale
    scores = cap * torch.tanh(scores / cap) if cap else scores
    return scores.masked_fill(~seen_HTS, float("-inf")).softmax(-1) @ v


def spread(columns_HJS, T, S):
    """The mask of columns: each row of a block sees them up to itself."""
    rows = columns_HJS.repeat_interleave(BLOCK, 1)[:, :T]
    return rows & (torch.arange(S) <= torch.arange(S - T, S)[:, None])


@pytest.mark.parametrize("kind", list(ALL))
@pytest.mark.parametrize(("T", "S"), [(1, 1), (63, 63), (200, 200), (70, 300), (128, 257)])
def test_a_pattern_that_reads_all_is_full_attention(kind, T, S):
    q, k, v = heads(T, S)
    sparse = SparsePrefill(Patterns(((ALL[kind],) * 4,), 0))
    causal = (torch.arange(S) <= torch.arange(S - T, S)[:, None]).expand(4, T, S)
    for cap in (0.0, 2.0):
        out = sparse.attend(0, q.transpose(0, 1), k, v, 0.3, cap).view(T, 4, 8).transpose(0, 1)
        torch.testing.assert_close(out, masked(q, k, v, causal, 0.3, cap), atol=1e-5, rtol=1e-5)
    assert sparse.share == 1.0


@pytest.mark.parametrize("kind", list(FEW))
@pytest.mark.parametrize(("T", "S"), [(200, 200), (70, 300)])
def test_few_columns_are_attention_through_their_mask_and_are_counted(kind, T, S):
    q, k, v = heads(T, S)
    guess = Guess(q, k, 0.3)
    columns = torch.stack([guess.columns(head, FEW[kind]) for head in range(4)])
    seen = spread(columns, T, S)
    torch.testing.assert_close(attend_columns(q, k, v, columns, 0.3), masked(q, k, v, seen, 0.3), atol=1e-5, rtol=1e-5)
    assert counted(columns, T).tolist() == seen.sum((1, 2)).tolist()
    assert seen.sum() < seen.new_ones(T, S).tril(S - T).sum() * 4


def test_each_pattern_reads_what_its_name_says():
    q, k, _ = heads(200, 200)
    guess = Guess(q, k, 0.3)
    shaped = guess.columns(0, Pattern("a_shape", 5, 20))
    assert shaped[2].nonzero()[:, 0].tolist() == [*range(5), *range(109, 192)]
    q[:], k[:] = 0.0, 0.0
    q[0, -BLOCK:, 0], k[0, 77, 0] = 30.0, 30.0  # the last queries read key 77
    assert Guess(q, k, 1.0).columns(0, Pattern("vertical_slash", 1, 0))[2].nonzero()[:, 0].tolist() == [77, *range(128, 192)]
    where = torch.nn.functional.one_hot(torch.arange(200)).float() * 30  # each query reads the key 100 before it
    line = Guess(where[None], where.roll(-100, 0)[None], 1.0).columns(0, Pattern("vertical_slash", 0, 1))
    assert line[2].nonzero()[:, 0].tolist() == [*range(28, 92), *range(128, 192)]
    q[0, 128:192, 1], k[0, 64:128, 1] = 1.0, 1.0
    assert Guess(q, k, 1.0).columns(0, Pattern("block_sparse", 1))[2].nonzero()[:, 0].tolist() == [*range(64, 192)]


def test_the_search_gives_each_head_the_pattern_of_its_attention():
    """At equal cost the patterns chosen by head come nearer to full attention than one kind for all."""
    net = make(context=256)
    ids = torch.randint(0, 270, (256,), generator=torch.Generator().manual_seed(1)).tolist()
    found = search(net, ids, share=0.5)
    only = search(net, ids, share=0.5, kinds=("a_shape",))
    assert {one.kind for heads_of in only.layers for one in heads_of} == {"a_shape"}
    whole, errors = read(net, ids), []
    for patterns in (found, only):
        sparse = SparsePrefill(Patterns(patterns.layers, 0))
        errors.append(float((read(net, ids, sparse) - whole).norm()))
        assert 0.3 < sparse.share <= 0.5
    assert errors[0] < errors[1]
    everything = SparsePrefill(Patterns(search(net, ids, share=1.0).layers, 0))
    torch.testing.assert_close(read(net, ids, everything), whole, atol=1e-5, rtol=1e-5)


def test_an_engine_whose_patterns_read_all_answers_as_ever():
    net = make(context=400)
    whole = Patterns(((ALL["a_shape"], ALL["vertical_slash"], ALL["block_sparse"], ALL["diagonals"]),) * 2, 64)
    asks = [*asks_of(()), ask("words and " * 60, limit=12, logprobs=0), ask("some " * 60, limit=12, rng=SEED)]
    with Engine(net, WORDS, slots=3) as plain, Engine(net, WORDS, slots=3, patterns=whole) as sparse:
        wanted, found = answers(plain, asks), answers(sparse, asks)
        assert [one.ids for one in found] == [one.ids for one in wanted]
        assert sparse.batch.prefill.share == 1.0
        assert sparse.batch.prefill.causal > 0


def test_short_prompts_are_read_in_full_and_long_ones_sparsely_whatever_their_company():
    net, asks = make(context=400), [ask("words and " * 60, limit=8, logprobs=0), ask(PROMPTS[3], limit=8, logprobs=0)]
    few = Patterns(((FEW["a_shape"], FEW["vertical_slash"], FEW["block_sparse"], FEW["vertical_slash"]),) * 2, 100)
    with Engine(net, WORDS, slots=3, patterns=few) as engine:
        alone = answers(engine, asks[:1])
        assert engine.batch.prefill.share < 0.9
        read_so_far = engine.batch.prefill.causal
        short = answers(engine, asks[1:])
        assert engine.batch.prefill.causal == read_so_far
    with Engine(net, WORDS, slots=3, patterns=few, share=False) as engine:
        together = answers(engine, asks)
    with Engine(net, WORDS, slots=3) as engine:
        plain = answers(engine, asks[1:])
    for end, other in zip(together, [*alone, *short], strict=True):
        assert end.ids == other.ids
        assert [one.logp for one in end.tokens] == pytest.approx([one.logp for one in other.tokens], abs=1e-4)
    assert plain[0].ids == short[0].ids


def test_patterns_are_kept_in_a_file_and_odd_ones_are_refused(tmp_path):
    net = make(context=400)
    patterns = Patterns(((FEW["a_shape"], FEW["vertical_slash"]) * 2,) * 2, 77)
    patterns.save(tmp_path / "patterns.json")
    assert Patterns.load(tmp_path / "patterns.json") == patterns
    (tmp_path / "odd.json").write_text('{"layers": [[{"kind": "round", "first": 1}]], "least": 3}')
    for file in ("odd.json", "none.json"):
        with pytest.raises(BadInput, match="search for"):
            Patterns.load(tmp_path / file)
    with pytest.raises(BadInput, match="another model"):
        Engine(net, WORDS, patterns=Patterns(patterns.layers[:1]))
    for wrong in ({"share": 0.0}, {"kinds": ("round",)}, {"ids": [1] * 20}):
        with pytest.raises(BadInput):
            search(net, **{"ids": [1] * 200, **wrong})
