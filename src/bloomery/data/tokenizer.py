"""Tokenizers as `tokenizers` defines them, stored so that `transformers.AutoTokenizer` loads the same.

Text is always plain text here: strings such as `<|eos|>` inside a document never become special ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.data.encoder import Encoder
from bloomery.data.special import SPECIAL
from bloomery.data.token_bytes import pieces
from bloomery.data.trained_spans import in_tokens
from bloomery.data.vocabulary import LEARNERS
from bloomery.seams import Vocab

FILES = ("tokenizer.json", "tokenizer_config.json")
MANY = 1 << 16  # characters from which on compiled code, which takes a moment to be loaded, is worth it
# Begin token, then the token of each role before what it says, and the end token after each answer, which is what is trained.
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
{%- if message['role'] not in ['system', 'user', 'assistant'] %}
{{- raise_exception('the roles are system, user and assistant, not ' + message['role']) }}
{%- endif %}
{{- '<|' + message['role'] + '|>' }}
{%- if message['role'] == 'assistant' %}
{%- generation %}
{{- message['content'] + eos_token }}
{%- endgeneration %}
{%- else %}
{{- message['content'] }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|assistant|>' }}
{%- endif %}"""


class Tokenizer:
    """Text to ids and back; `bos`, `eos` and `pad` are ids, `spare` those that were set aside, `vocab` is the number of ids."""

    pad, bos, eos = 0, 1, 2

    def __init__(self, inner: Any) -> None:
        """Wrap a `tokenizers.Tokenizer` that has at least the first three of SPECIAL; one of another tool may lack the roles."""
        inner.encode_special_tokens = True  # as plain text, which is what documents are
        inner.no_padding()
        inner.no_truncation()
        self.inner = inner
        self.bos, self.eos, self.pad = (self._special(token) for token in ("<|bos|>", "<|eos|>", "<|pad|>"))
        self.spare = spare_ids(inner)

    def _special(self, token: str) -> int:
        found = self.inner.token_to_id(token)
        if found is None:
            raise BadInput(f"the tokenizer has no token {token}; give one that the tokenize step made")
        return found

    @classmethod
    def load(cls, folder: str | Path) -> Tokenizer:
        """Read `tokenizer.json` of a folder. Raises BadInput when it is missing or damaged."""
        from tokenizers import Tokenizer as Inner

        path = Path(folder) / FILES[0]
        if not path.is_file():
            raise BadInput(f"{folder} holds no tokenizer.json; name a folder that the tokenize step made")
        try:
            return cls(Inner.from_file(str(path)))
        except BadInput:
            raise
        except Exception as error:  # the library raises plain Exception
            raise BadInput(f"{path} cannot be read ({str(error)[:120]}); make it again") from None

    @property
    def first(self) -> int:
        """The smallest id of ordinary text in a vocabulary that `learn` made."""
        return len(SPECIAL) + len(self.spare)

    @property
    def vocab(self) -> int:
        """Number of ids, special tokens included."""
        return self.inner.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without begin and end tokens."""
        return self.inner.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of many texts."""
        ids, counts = self.encode_flat(list(texts))
        return [part.tolist() for part in np.split(ids, np.cumsum(counts)[:-1])] if len(counts) else []

    def encode_flat(self, texts: Sequence[str], framed: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts one after the other (uint32) and how many each has (int64); `framed`: each between begin and end tokens.

        Much text of byte-level BPE is encoded by compiled code, all else by the library; the ids are the same.
        """
        frame, much = (self.bos, self.eos) if framed else None, sum(map(len, texts)) >= MANY
        if much and self.fast is not None and (made := self.fast.encode(texts, frame)) is not None:
            return made
        before, after = ([self.bos], [self.eos]) if framed else ([], [])
        found = [[*before, *one.ids, *after] for one in self.inner.encode_batch_fast(list(texts), add_special_tokens=False)]
        counts = np.array([len(one) for one in found], np.int64)
        return np.array([i for one in found for i in one], np.uint32), counts

    def marked(self, text: str, ids: np.ndarray, spans: Sequence[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
        """Spans of the characters of a text, counted in the tokens of its framed `ids`."""
        if self.fast is None:
            return in_tokens(spans, self.inner.encode(text, add_special_tokens=False).offsets)
        sizes = self._sizes[ids[1:-1]]
        ends = np.cumsum(sizes)
        return in_tokens([(*(len(text[:at].encode()) for at in span[:2]), span[2]) for span in spans], np.stack([ends - sizes, ends], 1))

    @cached_property
    def _sizes(self) -> np.ndarray:
        """The bytes of each id."""
        return np.array([len(piece) for piece in pieces(self.inner)], np.int64)

    @cached_property
    def fast(self) -> Encoder | None:
        """The compiled encoder, None where only the library knows this tokenizer."""
        return Encoder.of(self.inner)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; special tokens are written as their names, bytes that are not UTF-8 as the replacement character."""
        return self.inner.decode([int(i) for i in ids], skip_special_tokens=False)

    def decode_batch(self, many: Iterable[Sequence[int]]) -> list[str]:
        """The texts of many lists of ids, on all cores."""
        return self.inner.decode_batch([list(map(int, ids)) for ids in many], skip_special_tokens=False)

    def save(self, folder: str | Path) -> None:
        """Write tokenizer.json and tokenizer_config.json, which holds the chat template: every tool reads it there.

        In transformers names of special tokens within a text become special ids, unless `split_special_tokens=True` is said:
        as a setting of the tokenizer that would make plain text of what the chat template writes, too.
        """
        folder = Path(folder)
        self.inner.save(str(folder / FILES[0]))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "pad_token": SPECIAL[0],
            "bos_token": SPECIAL[1],
            "eos_token": SPECIAL[2],
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
            "model_input_names": ["input_ids", "attention_mask"],
        }
        (folder / FILES[1]).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def spare_ids(inner: Any) -> tuple[int, ...]:
    """The ids that a `tokenizers.Tokenizer` has set aside, in order; none where another tool made it."""
    found = []
    while (i := inner.token_to_id(spare_name(len(found)))) is not None:
        found.append(i)
    return tuple(found)


def spare_name(i: int) -> str:
    """How the spare token `i` is written."""
    return f"<|spare_{i}|>"


def vocab_of(tokenizer: Tokenizer) -> Vocab:
    """What a view may know of a vocabulary."""
    return Vocab(tokenizer.vocab, tokenizer.pad, tokenizer.bos, tokenizer.eos, tokenizer.spare)


def learn(texts: Iterable[str], vocab: int, progress: bool = False, spare: int = 0, model: str = "byte_bpe") -> Tokenizer:
    """Learn `vocab` tokens from texts, `spare` ids that no text gives among them; `model` is one of vocabulary.LEARNERS.

    Raises BadInput with the size reached when the texts do not hold that many pieces.
    """
    from tokenizers import processors

    special = [*SPECIAL, *map(spare_name, range(spare))]
    inner = LEARNERS[model](texts, vocab, special, progress)
    reached = inner.get_vocab_size()
    if reached < vocab:
        mend = f"say `vocab: {reached}` or less, or give more text"
        raise BadInput(f"vocab: the text holds pairs for {reached} tokens only, not {vocab}; {mend}")
    inner.post_processor = processors.TemplateProcessing(
        single="<|bos|> $A", pair="<|bos|> $A <|bos|> $B", special_tokens=[("<|bos|>", SPECIAL.index("<|bos|>"))]
    )
    return Tokenizer(inner)
