"""A language whose words are another's, renamed: each token begins where its counterpart was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import learn
from bloomery.methods.init.wechsel import Wechsel
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Doc, Rng, Source

PLACES = {"cat": ["sofa", "lap"], "dog": ["yard", "park"], "bird": ["tree", "nest"], "fish": ["pond", "lake"], "ant": ["hill", "leaf"]}
NAMES = {
    word: "".join(chr(ord("a") + (ord(c) - ord("a") + 11) % 26) for c in word)
    for word in ("the", "sits", "on", *PLACES, *(place for both in PLACES.values() for place in both))
}


def sentences(renamed: bool) -> list[str]:
    draw, found = np.random.default_rng(int(renamed)), []
    for _ in range(800):
        who = draw.choice(list(PLACES))
        found.append(f"the {who} sits on the {draw.choice(PLACES[who])}")
    return [" ".join(NAMES[word] for word in text.split()) for text in found] if renamed else found


@pytest.fixture(scope="module")
def sides() -> tuple[Source, Source]:
    found = []
    for renamed in (False, True):
        texts = sentences(renamed)
        tokenizer = learn(texts, 310)
        cfg = Config(tokenizer.vocab, 32, 1, 2, 2, 24, 16, tied=False)
        found.append(Source(Transformer(cfg, Rng((int(renamed), "test"))), tokenizer, [Doc(str(i), text) for i, text in enumerate(texts)]))
    return found[0], found[1]


METHOD = Wechsel(dictionary=tuple(f"{a}={b}" for a, b in NAMES.items()), neighbours=1, width=16)


def test_a_renamed_word_begins_as_its_counterpart_and_the_rest_is_copied(sides):
    source, target = sides
    METHOD.apply(target, [source], None, Rng((0,)))
    right, asked = 0, 0
    for word, other in NAMES.items():
        tokens = target.tokenizer.encode(f" {other}")
        if len(tokens) == 1:  # others are written in parts, which several words may share
            row, head = target.net.embed.weight[tokens[0]], target.net.head.weight[tokens[0]]
            (near,) = (source.net.embed.weight == row).all(1).nonzero().flatten().tolist()
            assert torch.equal(head, source.net.head.weight[near])
            asked += 1
            right += source.tokenizer.decode([near]).strip() in word  # a part that no other word has stands for the word as well
    assert asked >= 10 and right >= 0.75 * asked
    for name, p in target.net.named_parameters():
        assert name in ("embed.weight", "head.weight") or torch.equal(p, source.net.get_parameter(name))
    for special in (0, 1, 2):
        assert torch.equal(target.net.embed.weight[special], source.net.embed.weight[special])


def test_rows_are_means_of_the_source_s_rows_or_drawn_like_them(sides):
    source, target = sides
    Wechsel(METHOD.dictionary, neighbours=5, width=16).apply(target, [source], None, Rng((0,)))
    near, weight = Wechsel(METHOD.dictionary, neighbours=5, width=16).related(source, target, Rng((0,)))
    known = weight.any(axis=1)
    np.testing.assert_allclose(weight[known].sum(1), 1.0)
    for token in np.flatnonzero(known)[:20]:
        want = (torch.tensor(weight[token]).float()[:, None] * source.net.embed.weight[near[token]]).sum(0)
        torch.testing.assert_close(target.net.embed.weight[token], want)
    drawn = target.net.embed.weight[torch.from_numpy(~known)][3:]
    assert drawn.std().item() == pytest.approx(source.net.embed.weight.std().item(), rel=0.1)


def test_missing_text_or_words_are_refused(sides):
    source, target = sides
    with pytest.raises(BadInput, match="its text in `texts`"):
        METHOD.apply(target, [Source(source.net, source.tokenizer)], None, Rng((0,)))
    with pytest.raises(BadInput, match="of the dictionary's 1 pairs 0 stand in both texts"):
        Wechsel(("cat=chat",)).apply(target, [source], None, Rng((0,)))
    with pytest.raises(BadInput, match=r"too few to learn vectors of \(texts\)"):
        METHOD.apply(target, [Source(source.net, source.tokenizer, [Doc("0", "a")])], None, Rng((0,)))
    for knobs in ({"dictionary": ("cat",)}, {"temperature": 0}, {"neighbours": 0}):
        with pytest.raises(ValueError, match=r"no pair|must be"):
            Wechsel(**knobs)
