"""Claims about several labels of a document, which one pass stores and any query reads."""

DOMAINS = ("plain", "list", "code", "dialog")
WANTED, TOXIC = "dialog", "verse"  # the kind that is asked for; the kind that stands for what is not to be there
LEARNED, POOL, HELD = 600, 3000, 600  # documents of the world that classifiers learn from, that are chosen from, and that are held out
SPOILED = 0.5  # share of the documents whose words have shuffled letters
STUDENT = {"width": 64, "layers": 2, "heads": 4, "ffn": 176, "tokens": 200_000}
SOUND = 0.9  # F1 of each label on documents that no classifier has seen


def _spoiled(text, draw):
    """The same text with the letters of half of its words in another order."""
    words = [(word if draw.random() < 0.5 else "".join(draw.sample(word, len(word)))) for word in text.split(" ")]
    return " ".join(words)


def _documents(lab):
    """Rows of three parts of the world, with their truth, and files of them as JSON lines."""
    import json

    from bloomery.core.rng import python_rng
    from bloomery.data.worlds.opening import documents

    draw, rows = python_rng(lab.rng("chinesewebtext2")), []
    for doc in documents("domains", {"documents": 2 * (LEARNED + POOL + HELD)}):
        if doc.meta["domain"] != "target" and len(rows) < LEARNED + POOL + HELD:
            good = draw.random() >= SPOILED or len(rows) >= LEARNED + POOL
            text = doc.text if good else _spoiled(doc.text, draw)
            rows.append({"id": doc.id, "text": text, "label": doc.meta["domain"], "package": doc.meta["package"], "good": good})
    parts = {"learned": rows[:LEARNED], "pool": rows[LEARNED : LEARNED + POOL], "held": rows[LEARNED + POOL :]}
    learned = parts["learned"]
    sets = {
        "labelled": [row for row in learned if row["label"] in DOMAINS],
        "good": [row for row in learned if row["good"]],
        "bad": [row for row in learned if not row["good"]],
        "toxic": [row for row in learned if row["label"] == TOXIC],
        "benign": [row for row in learned if row["label"] != TOXIC],
        "pool": parts["pool"],
        "held": [row for row in parts["held"] if row["label"] == WANTED],
    }
    files = {}
    for name, some in sets.items():
        file = lab.store.root / "work" / f"claim-chinesewebtext2-{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in some))
        files[name] = str(file)
    return parts, files


def _f1(said, true):
    """Of a label."""
    hit = sum(a and b for a, b in zip(said, true, strict=True))
    return 2 * hit / max(1, sum(said) + sum(true))


def labels_answer_what_one_score_cannot(lab):
    """Small classifiers trained on 600 documents label unseen ones, by quality, domain and toxicity, with an F1 of 0.9 or more each; and
    at equal bytes, which are the students' tokens, documents that a query over all labels chooses teach the wanted domain better than as
    many of the best ones by quality alone, and than random ones (Zhang et al. 2024: 3.8 TB with these labels; no figure for models)."""
    from bloomery.lab.selected import BYTES
    from bloomery.methods.signal.chinesewebtext2 import Chinesewebtext2
    from bloomery.seams import Doc

    parts, files = _documents(lab)
    knobs = {name: files[name] for name in ("good", "bad", "toxic", "benign", "labelled")} | {"domains": list(DOMAINS)}
    pool = parts["pool"]
    found = Chinesewebtext2(**knobs | {"domains": DOMAINS}).columns([Doc(row["id"], row["text"]) for row in pool], None)
    scores = {"quality": _f1(found["quality"] >= 0.5, [row["good"] for row in pool])}
    scores["toxicity"] = _f1(found["toxicity"] >= 0.5, [row["label"] == TOXIC for row in pool])
    scores[WANTED] = _f1(found[f"domain_{WANTED}"] >= 0.5, [row["label"] == WANTED for row in pool])

    names = {"id": "id", "package": "package", "domain": "label"}
    about = {"sources": [{"from": files["pool"], **names}], "edits": [], "near": 0.0, "guard": 0.0, "heldout": 0.02}
    wanted = sum(len(row["text"].encode()) for row in pool if row["good"] and row["label"] == WANTED)
    about["budget"] = f"{int(0.9 * wanted)}B"
    signal = {"signals": [{"chinesewebtext2": knobs}]}
    query = f"chinesewebtext2.domain_{WANTED} >= 0.5 and chinesewebtext2.quality >= 0.5 and chinesewebtext2.toxicity < 0.5"
    arms = {
        "labels": {**signal, "keep": query, "select": "random"},
        "quality": {**signal, "select": {"top": {"column": "chinesewebtext2.quality"}}},
        "random": {"signals": ["length"], "select": "random"},
    }
    held = {"stage": "curate", "seed": 0, "sources": [{"from": files["held"], **names}], "edits": [], "signals": ["length"], "near": 0.0}
    loss = {}
    for arm, part in arms.items():
        steps = {
            "held": {**held, "guard": 0.0, "heldout": 0.8},
            "part": {"stage": "curate", **about, **part},
            "words": {"stage": "tokenize", "corpus": "$part", **BYTES},
            "student": {"stage": "pretrain", "data": "$words", **lab.defaults, **STUDENT},
            "scores": {"stage": "evaluate", "model": "$student", "corpus": "$held", "rivals": [], "batch": 0, "tasks": ["bits_per_byte"]},
        }
        loss[arm] = lab.run(steps, "scores").values("bits_per_byte")
    what = f"held-out bits per byte of {WANTED} text against"
    return [
        *(lab.more(f"F1 of {name} on unseen documents", value, SOUND) for name, value in scores.items()),
        lab.less(f"{what} the best by quality", loss["labels"], loss["quality"], unit="bits/byte"),
        lab.less(f"{what} random documents", loss["labels"], loss["random"], unit="bits/byte"),
    ]
