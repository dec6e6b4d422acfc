"""Claims about a fast scorer that learned from a slow one what good text is."""

KINDS = ("clean", "boilerplate", "junk", "corrupted")  # of the world `noisy`; repeated documents are clean, only too often there
DOCUMENTS = 3000
LEARNED = f"noisy-0-{DOCUMENTS // 2:06d}"  # the scorer learns from documents before it
EXTREME = 0.25  # share of these that the teacher finds best, and worst
TEACHER = {"tokens": 200_000}
STUDENT = {"width": 64, "layers": 2, "heads": 4, "ffn": 176, "tokens": 300_000}
FASTER = 10


def area(scores, good):
    """Under the ROC curve: how often a good document has a higher score than another one."""
    import numpy as np

    scores, good = np.asarray(scores, np.float64), np.asarray(good, bool)
    order = np.argsort(np.argsort(scores, kind="stable"), kind="stable") + 1
    return float((order[good].sum() - good.sum() * (good.sum() + 1) / 2) / (good.sum() * (~good).sum()))


def _written(lab, name, texts):
    """A file of JSON lines in the store's folder."""
    import json

    file = lab.store.root / "work" / f"claim-chinesewebtext-{name}.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(file)


def a_fast_scorer_does_what_its_teacher_does(lab):
    """A linear scorer of hashed words, trained on what a language model of clean text finds best and worst, tells unseen clean documents
    from bad ones with an area under the curve at most 0.05 below the model's, in less than a tenth of the time; and at equal bytes, which
    are the students' tokens, the half that it scores highest teaches clean text better than a random half (Chen et al. 2023: the
    distilled scorer is close to the teacher; 600 GB of 1.42 TB are above a quality of 90%)."""
    import time

    import pyarrow.parquet as pq

    import bloomery
    from bloomery.lab.selected import BYTES, NAMES, bits
    from bloomery.methods.signal.chinesewebtext import Chinesewebtext
    from bloomery.seams import Doc

    more = {"documents": 2 * DOCUMENTS, "keep": f"document.id >= 'noisy-0-{DOCUMENTS:06d}'"}  # of the same language
    clean = lab.world("noisy", noise=0.0, **more)
    kinds = " or ".join(f"document.domain == '{kind}'" for kind in KINDS)
    world = lab.world("noisy", documents=DOCUMENTS, keep=kinds)
    teacher = lab.pretrain(clean, seeds=[lab.tuning_seed], **TEACHER).runs[0]
    table = pq.read_table(world.corpus.path("train.parquet"), columns=["id", "text", "domain"]).to_pylist()
    seen, unseen = ([row for row in table if (row["id"] < LEARNED) == before] for before in (True, False))
    model = bloomery.load(teacher.artifact.folder)
    sizes = [len(row["text"].encode()) for row in (*seen, *unseen)]
    ids = [model.encode(row["text"]) for row in (*seen, *unseen)]
    begin = time.perf_counter()
    late = model.score(ids[len(seen) :])
    spent = time.perf_counter() - begin
    scores = [float(one.sum()) / size for one, size in zip((*model.score(ids[: len(seen)]), *late), sizes, strict=True)]
    order = sorted(range(len(seen)), key=lambda k: scores[k])
    count = int(EXTREME * len(seen))
    sets = {"good": order[-count:], "bad": order[:count]}
    knobs = {name: _written(lab, name, [seen[k]["text"] for k in rows]) for name, rows in sets.items()}
    scorer, docs = Chinesewebtext(**knobs), [Doc(row["id"], row["text"]) for row in unseen]
    scorer.columns(docs[:9], None)  # trained and compiled by now
    begin = time.perf_counter()
    quality = scorer.columns(docs, None)["quality"]
    took = time.perf_counter() - begin
    good = [row["domain"] == "clean" for row in unseen]
    areas = [area(found, good) for found in (quality, scores[len(seen) :])]

    source = {"from": str(world.corpus.path("train.parquet")), **NAMES}
    about = {"sources": [source], "edits": [], "near": 0.0, "guard": 0.0, "heldout": 0.02}
    about |= {"keep": f"document.id >= '{LEARNED}'", "budget": f"{int(world.corpus.facts['train_bytes'] / 4)}B"}
    arms = {
        "scored": {"signals": [{"chinesewebtext": knobs}], "select": {"top": {"column": "chinesewebtext.quality"}}},
        "random": {"signals": ["length"], "select": "random"},
    }
    loss = {}
    for arm, part in arms.items():
        steps = {
            "part": {"stage": "curate", **about, **part},
            "words": {"stage": "tokenize", "corpus": "$part", **BYTES},
            "student": {"stage": "pretrain", "data": "$words", **lab.defaults, **STUDENT},
            "scores": {"stage": "evaluate", "model": "$student", "corpus": "$corpus", "rivals": [], "batch": 0, "tasks": ["bits_per_byte"]},
        }
        loss[arm] = lab.run(steps, "scores", world)
    loss = {arm: bits(runs, "clean") for arm, runs in loss.items()}
    return [
        lab.more("area under the curve against the teacher's, within 0.05", *areas, margin=-0.05),
        lab.less("seconds for the unseen documents, against a tenth of the teacher's", took, spent / FASTER, unit="s"),
        lab.less("clean held-out bits per byte against a random half", loss["scored"], loss["random"], unit="bits/byte"),
    ]
