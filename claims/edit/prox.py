"""Claims about a model that writes programs which clean documents."""

KINDS = ("clean", "boilerplate", "junk")  # repeated and corrupted documents cannot be told, or mended, line by line
TAUGHT, REFINED, KEPT = 6000, 900, 300  # documents with their programs, to be refined, and clean ones that nothing is trained on
NOISE = {"taught": 0.8, "refined": 0.5, "kept": 0.0}  # lessons are mostly about what is to be removed
BYTES = {"vocab": 262, "sample": "2MB"}  # tokenize knobs of both students: no merges are learned, so that no vocabulary fits its own text
STUDENT = {"width": 64, "layers": 2, "heads": 4, "ffn": 176, "tokens": 300_000}
PLAIN = {"near": 0.0, "guard": 0.0, "signals": ["length"]}


def _program(doc):
    """What a refiner is taught to write for a document: to drop it, or to replace each planted line by nothing. A refiner of this size
    does not learn to point at lines by their numbers: with `remove_lines` its F1 is 0.78."""
    if not doc.meta["clean"]:
        return [("drop_doc", ())]
    lines = zip(doc.text.split("\n"), doc.meta["lines"], strict=False)
    return [("normalize", (line, "")) for line in dict.fromkeys(line for line, stays in lines if not stays)]


def _written_down(lab):
    """The documents by part, and for each part a file of JSON lines in the store's folder, always the same."""
    import itertools
    import json

    from bloomery.data.worlds.opening import documents
    from bloomery.methods.edit.prox import prompt, written

    found, files, begin = {}, {}, 0
    for part, count in {"taught": TAUGHT, "refined": REFINED, "kept": KEPT}.items():
        stream = documents("noisy", {"documents": 30_000, "sentences": 4, "noise": NOISE[part]})
        wanted = (one for one in itertools.islice(stream, begin, None) if one.meta["domain"] in KINDS)
        found[part] = list(itertools.islice(wanted, count))
        begin += 2 * count  # each part has documents of its own
        rows = []
        for doc in found[part]:
            text = prompt(doc.text.split("\n")) + written(_program(doc)) if part == "taught" else doc.text
            rows.append(json.dumps({"id": doc.id, "text": text, "package": doc.meta["package"]}) + "\n")
        files[part] = lab.store.root / "work" / f"claim-prox-{part}.jsonl"
        files[part].write_text("".join(rows))
    return found, {part: [{"from": str(file), "id": "id", "package": "package"}] for part, file in files.items()}


def _f1(docs, kept):
    """F1 of the removed lines; `kept` maps ids to texts, and documents that were dropped lack there."""
    hit = wrong = missed = 0
    for doc in docs:
        left = kept.get(doc.id, "").split("\n")
        for line, stays in zip(doc.text.split("\n"), doc.meta["lines"], strict=False):
            gone = line not in left
            hit, wrong, missed = hit + (gone and not stays), wrong + (gone and stays), missed + (not gone and not stays)
    return 2 * hit / max(1, 2 * hit + wrong + missed)


def _rules(text):
    """The rules of C4 for lines (Raffel et al. 2020): one stays that ends in a full stop, question mark, exclamation mark or quotation
    mark and has three words or more."""
    return "\n".join(line for line in text.split("\n") if line.endswith((".", "?", "!", '"')) and len(line.split()) >= 3)


def _steps(lab):
    """The documents to be refined, and for raw and refined text the steps to a student trained on it and measured on clean text."""
    docs, sources = _written_down(lab)
    taught = {
        "lessons": {"stage": "curate", "seed": 0, "sources": sources["taught"], "edits": [], **PLAIN, "heldout": 0.02},
        "words": {"stage": "tokenize", "seed": 0, "corpus": "$lessons", "vocab": 512, "sample": "2MB"},
        "refiner": {"stage": "pretrain", "data": "$words", **lab.defaults, "context": 384, "tokens": 900_000},
    }
    refiner = lab.run(taught, "refiner")
    prox = {"edits": [{"prox": {"lines": 20, "limit": 80, "chat": False}}], "roles": {"refiner": refiner}}
    found = {}
    for arm, edits in {"raw": {"edits": []}, "refined": prox}.items():
        found[arm] = {
            "kept": {"stage": "curate", "seed": 0, "sources": sources["kept"], "edits": [], **PLAIN, "heldout": 0.8},
            "text": {"stage": "curate", "sources": sources["refined"], **PLAIN, "heldout": 0.1, **edits},
            "tokens": {"stage": "tokenize", "corpus": "$text", **BYTES},
            "student": {"stage": "pretrain", "data": "$tokens", **lab.defaults, **STUDENT},
            "scores": {"stage": "evaluate", "model": "$student", "corpus": "$kept", "rivals": [], "batch": 0, "tasks": ["bits_per_byte"]},
        }
    return docs["refined"], found


def programs_remove_what_fixed_rules_leave(lab):
    """A tiny refiner's programs remove planted lines and junk with a higher F1 than the fixed rules of C4 (Zhou et al. 2024: refiners of
    0.3B; the paper compares by the models trained, and has no figure for lines)."""
    import pyarrow.parquet as pq

    docs, steps = _steps(lab)
    scores = []
    for run in lab.run({"text": steps["refined"]["text"]}, "text"):
        tables = [pq.read_table(run.artifact.path(f"{part}.parquet"), columns=["id", "text"]) for part in ("train", "heldout")]
        scores.append(_f1(docs, {row["id"]: row["text"] for table in tables for row in table.to_pylist()}))
    fixed = _f1(docs, {doc.id: _rules(doc.text) for doc in docs})
    return [lab.more("F1 of removed lines against the rules of C4", scores, [fixed] * len(scores), unit="F1")]


def refined_text_teaches_better(lab):
    """A model pre-trained on text that a tiny refiner's programs cleaned has a lower loss on clean text than one on the raw text, at equal
    bytes, which are its tokens (Zhou et al. 2024: more than 2% better on average over 10 benchmarks than on the original data)."""
    runs = {arm: lab.run(steps, "scores") for arm, steps in _steps(lab)[1].items()}
    bits = {arm: one.values("bits_per_byte") for arm, one in runs.items()}
    return [lab.less("clean held-out bits per byte against raw text", bits["refined"], bits["raw"], unit="bits/byte")]
