"""Claims about choosing documents that a large model knows better than a small one."""

NAMES = {"id": "id", "package": "package", "domain": "domain"}  # columns of a corpus, read as a source
BYTES = {"vocab": 262, "sample": "2MB"}  # tokenize knobs of every arm: no merges are learned, so that no vocabulary fits its own text
STUDENT = {"width": 64, "layers": 2, "heads": 4, "ffn": 176, "tokens": 400_000}
TINY = {"width": 32, "layers": 1, "heads": 2, "ffn": 88, "tokens": 200_000}


def _clean_bits(scores):
    """Bits per byte over the clean held-out documents, of all that were asked."""
    import json
    import math

    found = []
    for run in scores:
        if run.diverged:
            found.append(math.nan)
            continue
        lines = run.artifact.path("items", "bits_per_byte.jsonl").read_text().splitlines()
        rows = [row for row in map(json.loads, lines) if row["group"].startswith("clean")]
        found.append(sum(row["parts"]["bits"] for row in rows) / sum(row["parts"]["bytes"] for row in rows))
    return found


def the_difference_chooses_better_than_the_likelihood(lab):
    """At equal bytes, which are the students' tokens, a student on the half of a noisy corpus in which a teacher is most ahead of a tiny
    reference model has a lower loss on clean held-out text than one on a random half, and than one on the half that the teacher finds
    most likely (Gu et al. 2024: Difference
    Sampling beats pre-training on the corpus as it is on 9 tasks, and sampling by the teacher alone)."""
    world = lab.world("noisy", documents=3000)
    roles = {"teacher": lab.pretrain(world), "reference": lab.pretrain(world, **TINY)}
    source = {"from": str(world.corpus.path("train.parquet")), **NAMES}
    budget = f"{int(world.corpus.facts['train_bytes'] / 2)}B"
    about = {"sources": [source], "edits": [], "near": 0.0, "guard": 0.0, "heldout": 0.05, "budget": budget}
    arms = {
        "difference": {"signals": ["miniplm"], "roles": roles, "select": {"top": {"column": "miniplm.gain"}}},
        "teacher": {"signals": ["miniplm"], "roles": roles, "select": {"top": {"column": "miniplm.teacher"}}},
        "random": {"signals": ["length"], "select": "random"},
    }
    bits = {}
    for arm, knobs in arms.items():
        steps = {
            "half": {"stage": "curate", **about, **knobs},
            "words": {"stage": "tokenize", "corpus": "$half", **BYTES},
            "student": {"stage": "pretrain", "data": "$words", **lab.defaults, **STUDENT},
            "scores": {"stage": "evaluate", "model": "$student", "corpus": "$corpus", "rivals": [], "batch": 0, "tasks": ["bits_per_byte"]},
        }
        bits[arm] = lab.run(steps, "scores", world)
    bits = {arm: _clean_bits(runs) for arm, runs in bits.items()}
    return [
        lab.less("clean held-out bits per byte against a random half", bits["difference"], bits["random"], unit="bits/byte"),
        lab.less(
            "clean held-out bits per byte against the teacher's likeliest half", bits["difference"], bits["teacher"], unit="bits/byte"
        ),
    ]
