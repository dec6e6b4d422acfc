from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.executors import Local
from bloomery.core.job import Forecast, Job
from bloomery.core.log import Log
from bloomery.core.machine import Machine
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact
from bloomery.data.shards import Shards
from bloomery.data.tokenizer import Tokenizer
from bloomery.data.trained_spans import listed
from bloomery.seams import Rng
from bloomery.stages.tokenize import NASTY, Tokenize


def corpus_in(folder: Path, train: list[str], heldout: list[str]) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    facts = {}
    for part, texts in (("train", train), ("heldout", heldout)):
        columns = {
            "id": [f"{part}{i}" for i in range(len(texts))],
            "text": texts,
            "path": ["p.py"] * len(texts),
            "package": ["pkg"] * len(texts),
        }
        table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        sizes = [len(text.encode()) for text in texts]
        pq.write_table(table.append_column("bytes", pa.array(sizes, pa.int64())), folder / f"{part}.parquet")
        facts[f"{part}_bytes"] = sum(sizes)
    return Artifact("a" * 64, folder, {"facts": facts, "kind": "corpus"})


def job_in(folder: Path, seed: int = 0) -> Job:
    for name in ("out", "work"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Job(folder / "out", folder / "work", Rng((seed, "tokenize")), seed, Log(quiet=True), Local(1), None, {}, Signals())


TRAIN = [f"def f{i}(x):\n    return x + {i}  # <|eos|> <|bos|>\n" for i in range(300)] + [text for text in NASTY if text]
HELDOUT = [f"class C{i}:\n    value = {i}\n" for i in range(40)] + ["日本語 👩‍👩‍👧", "\r\n\t", "<|pad|>"]


@pytest.fixture(scope="module")
def tokens(tmp_path_factory) -> tuple[Path, Job, Tokenize]:
    folder = tmp_path_factory.mktemp("tokens")
    stage = Tokenize(corpus_in(folder / "corpus", TRAIN, HELDOUT), vocab=320)
    job = job_in(folder)
    stage.run(job)
    stage.check(job.out, job)
    job.demand()
    return folder, job, stage


def test_shards_hold_every_document_between_begin_and_end(tokens):
    folder, job, _ = tokens
    tokenizer = Tokenizer.load(folder / "out")
    for part, texts in (("train", TRAIN), ("heldout", HELDOUT)):
        shards = Shards(folder / "out" / part)
        assert len(shards) == len(texts) == job.facts[f"{part}_documents"]
        assert shards.total == job.facts[f"{part}_tokens"] and int(shards.bytes.sum()) == job.facts[f"{part}_bytes"]
        for i, text in enumerate(texts):
            ids = shards.document(i)
            assert ids[0] == 1 and ids[-1] == 2 and ids[1:-1].min(initial=6) >= 6 and tokenizer.decode(ids[1:-1]) == text
    assert job.facts["vocab"] == 320 and 1 < job.facts["bytes_per_token"] < 10
    assert Shards(folder / "out" / "heldout").table().column("id").to_pylist()[:2] == ["heldout0", "heldout1"]


def test_what_is_not_to_be_trained_is_marked_in_tokens(tmp_path):
    prefixed = [f"domain: code\n\n{text}" if k % 2 else text for k, text in enumerate(TRAIN)]
    corpus = corpus_in(tmp_path / "corpus", prefixed, HELDOUT)
    marks = {"train": [[(14, len(text), 1.0)] if k % 2 else [] for k, text in enumerate(prefixed)], "heldout": [[] for _ in HELDOUT]}
    for part, spans in marks.items():
        path = corpus.path(f"{part}.parquet")
        pq.write_table(pq.read_table(path).append_column("spans", listed(spans)), path)
    job = job_in(tmp_path)
    stage = Tokenize(corpus, vocab=320)
    stage.run(job)
    stage.check(job.out, job)
    job.demand()
    tokenizer, shards = Tokenizer.load(job.out), Shards(job.out / "train")
    for k, text in enumerate(TRAIN):
        ids, spans = shards.document(k), shards.spans(k)
        assert [tokenizer.decode(ids[a:b]) for a, b, _ in spans] == ([f"{text}<|eos|>"] if k % 2 else [])
    assert all(Shards(job.out / "heldout").spans(k) == [] for k in range(len(HELDOUT)))


def test_the_same_every_time_but_for_another_seed_with_a_small_sample(tokens, tmp_path):
    folder, _, stage = tokens
    made = []
    for name, seed, sample in (("a", 0, "20MB"), ("b", 0, "9kB"), ("c", 1, "9kB")):
        job = job_in(tmp_path / name, seed)
        Tokenize(stage.corpus, vocab=320, sample=sample).run(job)
        made.append((job.out / "tokenizer.json").read_bytes())
    assert made[0] == (folder / "out/tokenizer.json").read_bytes() and len(set(made)) == 3
    for file in sorted((folder / "out/train").iterdir()):
        assert file.read_bytes() == (tmp_path / "a/out/train" / file.name).read_bytes()


def test_a_vocabulary_larger_than_the_data_allows(tokens, tmp_path):
    with pytest.raises(BadInput, match=r"pairs for \d+ tokens only, not 60000; say `vocab: \d+` or less"):
        Tokenize(tokens[2].corpus, vocab=60000).run(job_in(tmp_path))


def test_no_heldout_and_no_train(tmp_path):
    job = job_in(tmp_path / "a")
    stage = Tokenize(corpus_in(tmp_path / "a/corpus", TRAIN, []), vocab=300)
    stage.run(job)
    stage.check(job.out, job)
    job.demand()
    assert job.facts["heldout_tokens"] == 0 and len(Shards(job.out / "heldout")) == 0
    with pytest.raises(BadInput, match="no training documents"):
        Tokenize(corpus_in(tmp_path / "b/corpus", [], []), vocab=300).run(job_in(tmp_path / "b"))


def test_checks_find_tampered_shards(tokens, tmp_path):
    import shutil

    folder, _, stage = tokens
    shutil.copytree(folder / "out", tmp_path / "out")
    ids = np.load(tmp_path / "out/heldout/tokens-00000.npy")
    ids[5] += 1
    np.save(tmp_path / "out/heldout/tokens-00000.npy", ids)
    job = job_in(tmp_path / "job")
    stage.check(tmp_path / "out", job)
    with pytest.raises(CheckFailed, match="heldout documents that decode differently is 1"):
        job.demand()


def test_domains_come_along_and_old_corpora_have_none(tokens, tmp_path):
    assert Shards(tokens[0] / "out/train").domains() == (None, ("",))
    corpus = corpus_in(tmp_path / "corpus", TRAIN, HELDOUT)
    for part, texts in (("train", TRAIN), ("heldout", HELDOUT)):
        table = pq.read_table(tmp_path / f"corpus/{part}.parquet")
        kinds = pa.array([("verse", "", "prose")[i % 3] for i in range(len(texts))], pa.string())
        pq.write_table(table.append_column("domain", kinds), tmp_path / f"corpus/{part}.parquet")
    job = job_in(tmp_path)
    Tokenize(corpus, vocab=320, spare=3).run(job)
    Tokenize(corpus, vocab=320, spare=3).check(job.out, job)
    job.demand()
    for part in ("train", "heldout"):
        places, names = Shards(job.out / part).domains()
        assert names == ("", "prose", "verse") and places[:6].tolist() == [2, 0, 1] * 2
    assert Tokenizer.load(job.out).spare == (6, 7, 8) and Shards(job.out / "train").document(0)[1:-1].min() >= 9


def test_knobs_and_forecast(tokens):
    _, job, stage = tokens
    for vocab in (261, 0, 1 << 21):
        with pytest.raises(ValueError, match="vocab must be between 262"):
            Tokenize(stage.corpus, vocab=vocab)
    with pytest.raises(ValueError, match="vocab must be between 272"):
        Tokenize(stage.corpus, vocab=270, spare=10)
    with pytest.raises(ValueError, match="spare must not be negative"):
        Tokenize(stage.corpus, spare=-1)
    with pytest.raises(BadInput, match="sample"):
        Tokenize(stage.corpus, sample="lots")
    forecast = Tokenize(None).forecast(
        {"corpus": Forecast(facts={"train_bytes": 15e6, "heldout_bytes": 1e6})}, Machine("m", 2, 1 << 30, False, {})
    )
    assert forecast.facts["train_tokens"] == pytest.approx(15e6 / 3.4) and 0 < forecast.seconds < 30
    assert json.dumps(forecast.facts) and set(forecast.facts) <= set(job.facts)


def domains_in(folder: Path, parts: dict[str, list[tuple[str, str]]]) -> Artifact:
    """A corpus whose documents are (domain, text)."""
    corpus = corpus_in(folder, *([text for _, text in rows] for rows in parts.values()))
    for part, rows in parts.items():
        table = pq.read_table(folder / f"{part}.parquet")
        pq.write_table(table.append_column("domain", pa.array([name for name, _ in rows], pa.string())), folder / f"{part}.parquet")
    return corpus


def test_an_extended_tokenizer_keeps_every_id_and_writes_the_map(tokens, tmp_path):
    folder, first, _ = tokens
    base = Artifact("b" * 64, folder / "out", {"facts": first.facts, "kind": "tokens"})
    new = [f"Der Hund und die Katze laufen über die Straße {i}.\n" for i in range(200)]
    stage = Tokenize(corpus_in(tmp_path / "corpus", new, HELDOUT), extends=base, add=30)
    job = job_in(tmp_path)
    stage.run(job)
    stage.check(job.out, job)
    job.demand()
    old, extended = Tokenizer.load(folder / "out"), Tokenizer.load(job.out)
    told = json.loads((job.out / "map.json").read_text())
    assert extended.vocab == job.facts["vocab"] == 350 and job.facts["old_vocab"] == 320 == told["old_vocab"]
    assert told["ids"] == list(range(320)) and sorted(map(int, told["made"])) == list(range(320, 350))
    assert [k for i in extended.encode(new[0]) for k in told["made"].get(str(i), [i])] == old.encode(new[0])
    told["made"]["330"] = told["made"]["331"]
    (job.out / "map.json").write_text(json.dumps(told))
    again = job_in(tmp_path / "again")
    stage.check(job.out, again)
    with pytest.raises(CheckFailed, match="not spelled as the map says is 1"):
        again.demand()
    machine = Machine("m", 2, 1 << 30, False, {})
    forecast = stage.forecast({"corpus": Forecast(facts={"train_bytes": 1e6}), "extends": Forecast(facts={"vocab": 320})}, machine)
    assert forecast.facts["vocab"] == 350
    for knobs, wrong in (
        ({"add": -1}, "add must not be negative"),
        ({"add": 3, "spare": 1}, "extends keeps the model and the spare"),
        ({"add": 3, "model": "bpe"}, "extends keeps the model and the spare"),
        ({"parallel": ("a",)}, "at least two domains"),
    ):
        with pytest.raises(ValueError, match=wrong):
            Tokenize(stage.corpus, **knobs)
    with pytest.raises(BadInput, match="extends and add go together"):
        Tokenize(None, add=5).forecast({"corpus": Forecast(facts={"train_bytes": 1e6})}, machine)
    with pytest.raises(BadInput, match="extends and add go together"):
        Tokenize(None).forecast({"corpus": Forecast(facts={"train_bytes": 1e6}), "extends": Forecast()}, machine)
    with pytest.raises(BadInput, match="extends and add go together"):
        Tokenize(stage.corpus, extends=base).run(job_in(tmp_path / "alone"))


@pytest.mark.parametrize("model", ["bpe", "unigram"])
def test_vocabularies_on_characters(tmp_path, model):
    job = job_in(tmp_path)
    stage = Tokenize(corpus_in(tmp_path / "corpus", TRAIN, HELDOUT), vocab=284, model=model, spare=2)
    stage.run(job)
    stage.check(job.out, job)
    job.demand()
    assert Tokenizer.load(job.out).spare == (6, 7) and job.facts["broken"] > 0


def test_the_card_tells_how_well_the_vocabulary_fits(tmp_path):
    rows = [("en", f"the cat {i} and the dog\n") for i in range(100)] + [
        ("ru", f"кошка {i} и собака {chr(0x4E00 + i)}\n") for i in range(100)
    ]
    corpus = domains_in(tmp_path / "corpus", {"train": rows[::2], "heldout": rows[1::2]})
    job = job_in(tmp_path)
    stage = Tokenize(corpus, vocab=300, parallel=("en", "ru"))
    stage.run(job)
    facts, tokenizer = job.facts, Tokenizer.load(job.out)
    counts = {name: [len(tokenizer.encode(text)) for domain, text in rows if domain == name] for name in ("en", "ru")}
    sizes = {name: sum(len(text.encode()) for domain, text in rows if domain == name) for name in ("en", "ru")}
    assert facts["bytes_per_token_of"] == {name: pytest.approx(sizes[name] / sum(counts[name])) for name in ("en", "ru")}
    most = max(counts, key=lambda name: sum(counts[name]))
    least = min(sum(one) for one in counts.values())
    assert facts["parity"][most] == pytest.approx(sum(counts[most]) / least) and min(facts["parity"].values()) == 1
    assert set(facts["scripts"]) == {"latin", "cyrillic", "cjk"} and facts["scripts"]["cyrillic"]["letters"] == 50 * len("кошкаисобака")
    assert 0 < facts["broken"] < 0.3 and json.dumps(facts)
    with pytest.raises(BadInput, match="parallel: no document is of the domain 'fr'"):
        Tokenize(corpus, vocab=300, parallel=("en", "fr")).run(job_in(tmp_path / "other"))


def test_more_cores_write_the_same_bytes(tokens, tmp_path, monkeypatch):
    folder, _, stage = tokens
    monkeypatch.setattr("bloomery.stages.tokenize.threads", lambda: 3)
    monkeypatch.setattr("bloomery.stages.tokenize.BLOCK", 500)
    monkeypatch.setattr("bloomery.data.tokenizer.MANY", 0)
    job = job_in(tmp_path)
    stage.run(job)
    for file in sorted((folder / "out").rglob("*.npy")):
        assert file.read_bytes() == (job.out / file.relative_to(folder / "out")).read_bytes()


def test_a_document_longer_than_the_sample(tmp_path):
    corpus = corpus_in(tmp_path / "corpus", ["abc def " * 5000, *TRAIN[:1]], [])
    job = job_in(tmp_path)
    texts = list(Tokenize(corpus, vocab=262, sample="1kB")._sample(job))
    assert sum(map(len, texts)) <= 1000
