"""Tokenize: a corpus becomes a vocabulary and token shards, and every held-out document comes back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.data.sizes import parse_size
from bloomery.data.tokenizer import SMALLEST, SPECIAL

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact
    from bloomery.data.tokenizer import Tokenizer

PARTS = ("train", "heldout")
LEARNING, WRITING = 4e6, 3e6  # bytes a second and core: learning the vocabulary, encoding; measured
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
    """Learn a byte-level BPE vocabulary and write token shards."""

    corpus: Annotated[Artifact, "corpus"]  # the documents
    vocab: int = 4096  # size of the vocabulary, special tokens included
    sample: str = "20MB"  # text to learn the vocabulary from, drawn from the training documents
    spare: int = 0  # tokens set aside that no text gives, part of the vocabulary: a view takes them for its marks
    makes: ClassVar[str] = "tokens"

    def __post_init__(self) -> None:
        if self.spare < 0:
            raise ValueError(f"spare must not be negative, got {self.spare}")
        if not SMALLEST + self.spare <= self.vocab <= 1 << 20:
            wanted = f"between {SMALLEST + self.spare} (256 bytes and {len(SPECIAL) + self.spare} special tokens) and 1048576"
            raise ValueError(f"vocab must be {wanted}, not {self.vocab}")
        parse_size(self.sample, "sample")

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """From the bytes of the corpus and speeds measured on one core."""
        facts = inputs["corpus"].facts
        train, heldout = (float(facts.get(f"{part}_bytes", 0)) for part in PARTS)
        tokens = {f"{part}_tokens": size / BYTES_PER_TOKEN for part, size in zip(PARTS, (train, heldout), strict=True)}
        cores, sample = max(1, min(machine.cores, 16)), min(train, parse_size(self.sample, "sample"))
        seconds = 1 + sample / LEARNING / cores + (train + heldout) / WRITING / cores
        width = 2 if self.vocab <= 1 << 16 else 4
        more = {"vocab": self.vocab, "train_bytes": train, "heldout_bytes": heldout, "bytes_per_token": BYTES_PER_TOKEN}
        return Forecast(seconds=seconds, memory=600e6 + 12 * sample, disk=width * sum(tokens.values()) + 1e6, facts={**tokens, **more})

    def run(self, job: Job) -> None:
        """Learn the vocabulary, then write the shards of both parts."""
        from bloomery.data.shards import write_shards
        from bloomery.data.tokenizer import learn

        with job.log.progress("learning the vocabulary"):
            tokenizer = learn(self._sample(job), self.vocab, spare=self.spare)
        tokenizer.save(job.out)
        job.fact("vocab", tokenizer.vocab)
        for part in PARTS:
            total = self.corpus.facts.get(f"{part}_bytes")
            with job.log.progress(f"encoding {part}", total=total, unit="bytes") as bar:
                made = write_shards(job.out / part, _encoded(tokenizer, self.corpus.path(f"{part}.parquet"), bar), tokenizer.vocab)
            job.fact(f"{part}_tokens", made["tokens"])
            job.fact(f"{part}_bytes", made["bytes"])
            job.fact(f"{part}_documents", made["documents"])
        job.fact("bytes_per_token", job.facts["train_bytes"] / (job.facts["train_tokens"] - 2 * job.facts["train_documents"]))

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
        job.check("tokens missing from the vocabulary", abs(tokenizer.vocab - self.vocab), 0)
        job.check("spare tokens missing from the vocabulary", abs(len(tokenizer.spare) - self.spare), 0)

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
        row = 0
        for rows in _documents(path, ["text"]):
            for text in rows["text"]:
                if chosen[row]:
                    yield text
                row += 1


def _documents(path: Path, columns: list[str]) -> Iterator[dict[str, list[Any]]]:
    """Those of the named columns that a corpus file has, in batches."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(batch_size=256, columns=there):
            yield batch.to_pydict()


def _encoded(tokenizer: Tokenizer, path: Path, bar: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every document of a corpus file with its ids between begin and end tokens."""
    import numpy as np

    for rows in _documents(path, ["id", "package", "path", "domain", "bytes", "text"]):
        texts = rows.pop("text")
        for k, ids in enumerate(tokenizer.encode_batch(texts)):
            yield {name: values[k] for name, values in rows.items()}, np.array([tokenizer.bos, *ids, tokenizer.eos], np.uint32)
        bar.advance(sum(rows["bytes"]))


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
