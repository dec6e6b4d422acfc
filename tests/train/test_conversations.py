"""Conversations made ready for the loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.data.chat.read import Conversation, write_chats
from bloomery.data.tokenizer import learn
from bloomery.methods.batching.whole import Whole
from bloomery.methods.view.causal import Causal
from bloomery.seams import Clock, Rng, Vocab
from bloomery.train.conversations import Conversations, lay_out, sums

RNG = Rng((0, "lay"))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("words")
    learn([f"question {i} yes indeed" for i in range(50)], 280).save(folder)
    return folder


def talk(i: int, turns: int = 1) -> Conversation:
    said = [turn for k in range(turns) for turn in (("user", f"question {i} {k}"), ("assistant", "yes " * (1 + i % 5)))]
    return Conversation(f"c{i}", tuple(said), package=f"p{i % 4}")


def laid(words: Path, folder: Path, conversations: list[Conversation], wish: int = 0, most: int = 256, **more) -> Conversations:
    folder.mkdir(exist_ok=True)
    write_chats(folder / "all.parquet", conversations)
    knobs = {"template": "", "long": "drop", "share": 0.25, "rng": RNG, **more}
    return lay_out(folder / "all.parquet", folder / "laid", words, shape=(wish, most, 280), **knobs)


def test_rows_are_as_long_as_the_longest_conversation_needs(words: Path, tmp_path: Path) -> None:
    made = laid(words, tmp_path, [talk(i, 1 + i % 3) for i in range(40)])
    longest = max(len(ids) for part in (made.train, made.heldout) for _, (ids, _) in part)
    assert made.context % 64 == 0 and made.context - 64 < longest - 1 <= made.context
    assert laid(words, tmp_path, [talk(i) for i in range(40)], wish=96).context == 96
    assert made.facts["conversations"] == {"train": len(made.train), "heldout": len(made.heldout)}


def test_the_feed_trains_every_marked_token_of_an_epoch_once(words: Path, tmp_path: Path) -> None:
    made = laid(words, tmp_path, [talk(i, 2) for i in range(40)])
    feed, trained, clock = made.feed("train", Whole(), Causal(), 2, 0, RNG, Vocab(280, 0, 1, 2)), 0.0, Clock(0, 0, made.context, None)
    while not (feed.state and feed.state["epoch"]):
        (micro,) = feed.next(clock)
        trained += float(micro.weights.sum())
        inside = np.asarray(micro.documents) >= 0
        assert not micro.weights.numpy()[~inside].any()
    assert trained == made.trained == made.facts["trained_tokens_per_epoch"]


def test_nats_are_summed_over_marked_tokens(words: Path, tmp_path: Path) -> None:
    made = laid(words, tmp_path, [talk(i) for i in range(40)])
    logps = [-np.arange(1, len(ids), dtype=np.float32) for _, (ids, _) in made.heldout]
    for (nats, tokens), (_, (ids, spans)) in zip(sums(logps, made.heldout), made.heldout, strict=True):
        assert nats == sum(k for start, stop, _ in spans for k in range(start, stop))
        assert tokens == sum(stop - start for start, stop, _ in spans) and len(ids) > tokens


def test_spelling_and_ends_are_checked(words: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    made = laid(words, tmp_path, [talk(i) for i in range(40)])
    tokenizer = Tokenizer.from_file(str(words / "tokenizer.json"))
    assert made.misspelt(tokenizer) == (0, len(made.heldout)) and made.endless() == 0
    one, (ids, ((start, stop, weight),)) = made.heldout[0]
    made.heldout[0] = (one, (ids, [(start + 1, stop - 1, weight)]))
    assert made.misspelt(tokenizer)[0] == 1 and made.endless() == 1


def test_a_tokenizer_of_more_tokens_than_the_model_has_is_refused(words: Path, tmp_path: Path) -> None:
    write_chats(tmp_path / "all.parquet", [talk(i) for i in range(4)])
    last = max(token for _, (ids, _) in laid(words, tmp_path / "whole", [talk(i) for i in range(4)], share=0.0).train for token in ids)
    lay_out(tmp_path / "all.parquet", tmp_path / "laid", words, "", (0, 256, last + 1), "drop", 0.0, RNG)
    with pytest.raises(BadInput, match=f"its tokenizer writes the id {last} and it has {last} tokens"):
        lay_out(tmp_path / "all.parquet", tmp_path / "laid", words, "", (0, 256, last), "drop", 0.0, RNG)


def test_nothing_to_train_on_says_why(words: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="too long for the context"):
        laid(words, tmp_path, [talk(i, 3) for i in range(10)], wish=8)
