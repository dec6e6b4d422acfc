"""Tokenize: a corpus becomes a vocabulary and token shards, and every held-out document comes back as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.machine import threads
from bloomery.data.sizes import parse_size
from bloomery.data.special import SMALLEST, SPECIAL

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact
    from bloomery.data.tokenizer import Tokenizer

PARTS = ("train", "heldout")
LEARNING = 2e6  # bytes a second and core; measured
WRITING = {"byte_bpe": 15e6, "bpe": 2e6, "unigram": 2e6}  # bytes a second and core, reading and writing counted; measured
BLOCK = 1 << 20  # characters that a thread encodes at a time
MEASURED = 20_000_000  # bytes of held-out text whose characters are counted
BYTES_PER_TOKEN = 3.4  # of code and English with a vocabulary of some thousand tokens
CHECKED = 200  # training documents that are decoded again; of held-out documents all are
NASTY = (
    "",
    " ",
    "\n",
    "\r\n\t \n",
    "a",
    "  leading and trailing  ",
    "<|bos|>x<|eos|><|pad|>",
    "<|user|>a<|assistant|>b<|system|>",
    "<|spare_0|>x<|spare_1|>",
    "<|eos|>",
    "naïve café",
    "e\u0301",
    "\ufeffmark",
    "日本語のテキスト",
    "👩‍👩‍👧‍👦 🏳️‍🌈",
    "\u202eright to left\u202c",
    "\x01\x02\x7f",
    "\ud7ff\ue000\ufffd\U0010ffff",
    "x" * 300,
    "don't  I'LL",
    "٣٤٥ ½ ²",
)


@dataclass(frozen=True)
class Tokenize:
    """Learn a vocabulary, or extend one, and write token shards."""

    corpus: Annotated[Artifact, "corpus"]  # the documents
    vocab: int = 4096  # size of a new vocabulary, special tokens included
    model: Literal["byte_bpe", "bpe", "unigram"] = "byte_bpe"  # how a new vocabulary is learned; bpe and unigram: on characters
    sample: str = "20MB"  # text to learn the vocabulary from, drawn from the training documents; it bounds the memory of learning
    spare: int = 0  # tokens set aside that no text gives, part of the vocabulary: a view takes them for its marks
    extends: Annotated[Artifact | None, "*"] = None  # tokens, a model or a folder whose tokenizer.json is kept, with tokens added
    add: int = 0  # tokens to add to it
    parallel: tuple[str, ...] = ()  # domains whose documents say the same: the card then compares their tokens
    makes: ClassVar[str] = "tokens"

    def __post_init__(self) -> None:
        if self.spare < 0:
            raise ValueError(f"spare must not be negative, got {self.spare}")
        if not SMALLEST + self.spare <= self.vocab <= 1 << 20:
            wanted = f"between {SMALLEST + self.spare} (256 bytes and {len(SPECIAL) + self.spare} special tokens) and 1048576"
            raise ValueError(f"vocab must be {wanted}, not {self.vocab}")
        if self.add < 0:
            raise ValueError(f"add must not be negative, got {self.add}")
        if self.add and (self.spare or self.model != "byte_bpe"):
            raise ValueError("extends keeps the model and the spare tokens of the tokenizer that it names; leave out model and spare")
        if len(self.parallel) == 1:
            raise ValueError("parallel must name at least two domains")
        parse_size(self.sample, "sample")

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """From the bytes of the corpus and speeds measured on one core; BadInput where one of `extends` and `add` is without the other."""
        self._together("extends" in inputs)
        facts = inputs["corpus"].facts
        train, heldout = (float(facts.get(f"{part}_bytes", 0)) for part in PARTS)
        tokens = {f"{part}_tokens": size / BYTES_PER_TOKEN for part, size in zip(PARTS, (train, heldout), strict=True)}
        cores, sample = max(1, min(machine.cores, 16)), min(train, parse_size(self.sample, "sample"))
        seconds = 1 + sample / LEARNING / cores + (train + heldout) / WRITING[self.model] / cores
        base = inputs["extends"].facts.get("vocab", 0) if self.add else 0
        vocab = int(base) + self.add if base else self.vocab
        width = 2 if vocab <= 1 << 16 else 4
        more = {"vocab": vocab, "train_bytes": train, "heldout_bytes": heldout, "bytes_per_token": BYTES_PER_TOKEN}
        if not self.add:
            more["spare"] = self.spare
        return Forecast(seconds=seconds, memory=600e6 + 12 * sample, disk=width * sum(tokens.values()) + 1e6, facts={**tokens, **more})

    def _together(self, extends: bool) -> None:
        """What is known of `extends` only when the inputs are."""
        if extends != bool(self.add):
            raise BadInput(f"extends and add go together: name a tokenizer and how many tokens it gets, not {self.add}")

    def run(self, job: Job) -> None:
        """Learn or extend the vocabulary, write the shards of both parts, measure how well the one fits the other."""
        from bloomery.data.shards import write_shards
        from bloomery.data.tokenizer import learn

        self._together(self.extends is not None)
        with job.log.progress("learning the vocabulary"):
            if self.extends is None:
                tokenizer = learn(self._sample(job), self.vocab, spare=self.spare, model=self.model)
            else:
                tokenizer = self._extended(job)
        tokenizer.save(job.out)
        job.fact("vocab", tokenizer.vocab)
        job.fact("spare", len(tokenizer.spare))
        for part in PARTS:
            total = self.corpus.facts.get(f"{part}_bytes")
            with job.log.progress(f"encoding {part}", total=total, unit="bytes") as bar:
                made = write_shards(job.out / part, _encoded(tokenizer, self.corpus.path(f"{part}.parquet"), bar), tokenizer.vocab)
            job.fact(f"{part}_tokens", made["tokens"])
            job.fact(f"{part}_bytes", made["bytes"])
            job.fact(f"{part}_documents", made["documents"])
        job.fact("bytes_per_token", job.facts["train_bytes"] / (job.facts["train_tokens"] - 2 * job.facts["train_documents"]))
        for name, value in self._quality(tokenizer, job.out).items():
            job.fact(name, value)

    def _extended(self, job: Job) -> Tokenizer:
        """The tokenizer of `extends` with more tokens, and map.json beside it."""
        from bloomery.data.extension import extend
        from bloomery.data.tokenizer import Tokenizer

        tokenizer, made = extend(Tokenizer.load(self.extends.folder), self._sample(job), self.add)
        (job.out / "map.json").write_text(json.dumps(made) + "\n", encoding="utf-8")
        job.fact("old_vocab", made["old_vocab"])
        return tokenizer

    def _quality(self, tokenizer: Tokenizer, made: Path) -> dict[str, Any]:
        """What the card says of how well the vocabulary fits: `domains`, `broken`, `scripts`, `parity`."""
        from bloomery.data import token_quality as quality
        from bloomery.data.shards import Shards
        from bloomery.data.token_bytes import pieces

        shards = {part: Shards(made / part) for part in PARTS}
        part = "heldout" if len(shards["heldout"]) else "train"
        texts, size = [], 0
        for rows in _documents(self.corpus.path(f"{part}.parquet"), ["text"]):
            for text in rows["text"]:
                if size < MEASURED:
                    texts.append(text)
                    size += len(text.encode())
            if size >= MEASURED:
                break
        domains = quality.by_domain(list(shards.values()))
        named = {"bytes_per_token_of": quality.bytes_per_token(domains)} if domains else {}
        if self.parallel:
            try:
                named["parity"] = quality.parity(domains, self.parallel)
            except ValueError as wrong:
                raise BadInput(f"parallel: {wrong}") from None
        spelled = pieces(tokenizer.inner)
        return named | quality.completeness(spelled, quality.uses(shards[part], len(texts), len(spelled)), texts)

    def check(self, made: Path, job: Job) -> None:
        """Every held-out document, some training documents and nasty strings come back exactly; counts and bytes add up."""
        from bloomery.data.shards import Shards
        from bloomery.data.tokenizer import Tokenizer

        tokenizer = Tokenizer.load(made)
        shards = {part: Shards(made / part) for part in PARTS}
        for part in PARTS:
            at_most = None if part == "heldout" else CHECKED
            wrong, seen, size = _differences(tokenizer, shards[part], self.corpus.path(f"{part}.parquet"), at_most)
            job.check(f"{part} documents that decode differently", wrong, 0, note=f"of {seen}")
            job.check(f"{part} bytes not in the shards", abs(size - int(shards[part].bytes.sum())), 0)
        encoded = {text: tokenizer.encode(text) for text in NASTY}
        nasty = sum(tokenizer.decode(ids) != text or min(ids, default=tokenizer.first) < tokenizer.first for text, ids in encoded.items())
        job.check("nasty strings that decode differently or become special", nasty, 0, note=f"of {len(NASTY)}")
        self._check_vocabulary(tokenizer, made, job)

    def _check_vocabulary(self, tokenizer: Tokenizer, made: Path, job: Job) -> None:
        """As many tokens as asked for; of an extended tokenizer, that every old one is where it was."""
        if self.extends is None:
            job.check("tokens missing from the vocabulary", abs(tokenizer.vocab - self.vocab), 0)
            job.check("spare tokens missing from the vocabulary", abs(len(tokenizer.spare) - self.spare), 0)
            return
        from bloomery.data.extension import differences
        from bloomery.data.tokenizer import Tokenizer

        base, told = Tokenizer.load(self.extends.folder), json.loads((made / "map.json").read_text(encoding="utf-8"))
        job.check("tokens missing from the vocabulary", abs(tokenizer.vocab - base.vocab - self.add), 0)
        job.check("tokens that moved or are not spelled as the map says", differences(base, tokenizer, told), 0)

    def _sample(self, job: Job) -> Iterator[str]:
        """Texts of training documents, drawn at random until the sample is full, in the order of the corpus."""
        import numpy as np

        from bloomery.core.rng import numpy_rng
        from bloomery.data.tables import read_table

        path = self.corpus.path("train.parquet")
        sizes = read_table(path, ["bytes"]).column("bytes").to_numpy()
        if not len(sizes):
            raise BadInput(f"{self.corpus.name} has no training documents; loosen what curate keeps")
        order = numpy_rng(job.rng.child("sample")).permutation(len(sizes))
        chosen = np.zeros(len(sizes), bool)
        chosen[order[np.cumsum(sizes[order]) <= parse_size(self.sample, "sample")]] = True
        chosen[order[0]] = True
        row, most = 0, parse_size(self.sample, "sample")
        for rows in _documents(path, ["text"]):
            for text in rows["text"]:
                if chosen[row]:
                    yield text[: int(most)]  # a document may be longer than the sample
                row += 1


def _documents(path: Path, columns: list[str]) -> Iterator[dict[str, list[Any]]]:
    """Those of the named columns that a corpus file has, in batches."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=256, columns=there):
            yield batch.to_pydict()


def _encoded(tokenizer: Tokenizer, path: Path, bar: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every document of a corpus file with its ids between begin and end tokens; encoded on all cores."""
    import numpy as np

    from bloomery.data.encoder import in_order
    from bloomery.data.trained_spans import ranges

    def encode(block: dict[str, list[Any]]) -> tuple[dict[str, list[Any]], Any]:
        texts = block.pop("text")
        ids, counts = tokenizer.encode_flat(texts, framed=True)
        parts = np.split(ids, np.cumsum(counts[:-1]))
        if "spans" in block:
            block["spans"] = [tokenizer.marked(*one) for one in zip(texts, parts, map(ranges, block["spans"]), strict=True)]
        return block, parts

    workers = threads() if tokenizer.fast is not None else 1  # the library has threads of its own
    for rows, parts in in_order(encode, _blocks(path), workers):
        for k, ids in enumerate(parts):
            yield {name: values[k] for name, values in rows.items()}, ids
        bar.advance(sum(rows["bytes"]))


def _blocks(path: Path) -> Iterator[dict[str, list[Any]]]:
    """The documents of a corpus file, about BLOCK characters at a time."""
    for rows in _documents(path, ["id", "package", "path", "domain", "bytes", "text", "spans"]):
        start = size = 0
        for k, text in enumerate(rows["text"]):
            size += len(text)
            if size >= BLOCK or k + 1 == len(rows["text"]):
                yield {name: values[start : k + 1] for name, values in rows.items()}
                start, size = k + 1, 0


def _differences(tokenizer: Tokenizer, shards: Any, path: Path, at_most: int | None) -> tuple[int, int, int]:
    """Documents whose stored ids do not give the text of the corpus back; how many were compared (evenly spread); bytes of all texts."""
    step = 1 if at_most is None else max(1, len(shards) // at_most)
    wrong = seen = size = row = 0
    for rows in _documents(path, ["text"]):
        for text in rows["text"]:
            size += len(text.encode())
            if row % step == 0:
                ids = shards.document(row)
                framed = len(ids) >= 2 and ids[0] == tokenizer.bos and ids[-1] == tokenizer.eos and not (ids[1:-1] < tokenizer.first).any()
                wrong += not framed or tokenizer.decode(ids[1:-1].tolist()) != text
                seen += 1
            row += 1
    return wrong + abs(row - len(shards)), seen, size
