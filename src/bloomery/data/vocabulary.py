"""Learning vocabularies with `tokenizers`: byte-level BPE, BPE on characters, unigram. The latter two write what they have no piece for
as bytes, so that any text comes back as it was.

All texts are cut by the pattern of GPT-2 first. No piece holds letters and signs together, so no text can give a special token's name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from bloomery.data.pretokens import GPT2

BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
CHARACTERS = 0.3  # of the pieces that are not bytes, at most so many are single characters
LONGEST = 16  # characters of a unigram piece
DIGITS = 4  # of a unigram piece's score: sums of the library differ in the last of sixteen from run to run


def byte_bpe(texts: Iterable[str], vocab: int, special: Sequence[str], progress: bool) -> Any:
    """Source: Sennrich et al. 2016, arXiv 1508.07909, on bytes as in GPT-2 (Radford et al. 2019)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, min_frequency=2, special_tokens=list(special), initial_alphabet=alphabet, show_progress=progress
    )
    inner.encode_special_tokens = True
    inner.train_from_iterator(texts, trainer)
    return inner


def bpe(texts: Iterable[str], vocab: int, special: Sequence[str], progress: bool) -> Any:
    """Source: Sennrich et al. 2016, arXiv 1508.07909; the way of rare characters is SentencePiece's (Kudo & Richardson 2018, arXiv
    1808.06226)."""
    from tokenizers import Tokenizer, models, trainers

    texts = list(texts)
    inner = _cut(Tokenizer(models.BPE(byte_fallback=True)))
    alphabet = _alphabet(texts, vocab - len(special) - len(BYTES))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, min_frequency=2, special_tokens=[*special, *BYTES], initial_alphabet=alphabet, limit_alphabet=len(alphabet),
        show_progress=progress,
    )  # fmt: skip
    inner.encode_special_tokens = True
    inner.train_from_iterator(texts, trainer)
    spec = json.loads(inner.to_str())
    spec["added_tokens"] = spec["added_tokens"][: len(special)]  # a byte is an ordinary piece
    return Tokenizer.from_str(json.dumps(spec))


def unigram(texts: Iterable[str], vocab: int, special: Sequence[str], progress: bool) -> Any:
    """Source: Kudo 2018, arXiv 1804.10959. Ids after the bytes are in falling order of probability."""
    from tokenizers import Tokenizer, models, trainers

    texts = list(texts)
    inner, room = _cut(Tokenizer(models.Unigram())), vocab - len(special) - len(BYTES)
    alphabet = _alphabet(texts, room)
    known = set(alphabet)
    trainer = trainers.UnigramTrainer(
        vocab_size=len(special) + room, special_tokens=list(special), initial_alphabet=alphabet, max_piece_length=LONGEST,
        show_progress=progress,
    )  # fmt: skip
    inner.encode_special_tokens = True
    inner.train_from_iterator(("".join(letter if letter in known else " " for letter in text) for text in texts), trainer)
    spec = json.loads(inner.to_str())
    found = [(piece, round(score, DIGITS)) for piece, score in spec["model"]["vocab"][len(special) :]]
    least = min((score for _, score in found), default=0.0)
    steps = least + 2e-4 * len(alphabet)  # characters that no piece was learned for come 1e-4 apart, in an order that is the run's
    level = [(piece, least if len(piece) == 1 and score <= steps else score) for piece, score in found]
    scored = sorted(level, key=lambda one: (-one[1], one[0]))
    listed = [*((name, 0.0) for name in special), *((name, least) for name in BYTES), *scored]
    spec["model"].update(vocab=listed, unk_id=0, byte_fallback=True)  # nothing is unknown: every byte has a piece
    return Tokenizer.from_str(json.dumps(spec))


LEARNERS = {"byte_bpe": byte_bpe, "bpe": bpe, "unigram": unigram}


def _cut(inner: Any) -> Any:
    """Cuts text as GPT-2 does and puts pieces and lone bytes together again."""
    from tokenizers import Regex, decoders, pre_tokenizers

    inner.pre_tokenizer = pre_tokenizers.Split(Regex(GPT2), "isolated")
    inner.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return inner


def _alphabet(texts: Sequence[str], room: int) -> list[str]:
    """The most frequent characters, equal ones in the order of Unicode: at most a share of the pieces that there is room for."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    ranked = sorted(counts, key=lambda letter: (-counts[letter], letter))
    return ranked[: max(0, int(CHARACTERS * room))]
