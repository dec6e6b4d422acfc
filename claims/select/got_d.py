"""Claims about choosing text that moves what a model was trained on towards a target."""

DOCUMENTS = 3000
HALF = f"domains-0-{DOCUMENTS // 2:06d}"  # the model is trained on documents before it, candidates come from there on
SHOWN = "domains-0-000240"  # documents of the target before it are shown: 40
KNOWN = ("dialog", "plain")  # what the model is trained on: enough of the target's first kind, some of its third, nothing of its second
LACKING = ("list",)
PART = 0.2  # of the candidates is chosen
MORE = 80_000  # tokens of training on


def what_the_model_lacks_is_chosen(lab):
    """At equal bytes, which are the tokens of training on, a fifth of the candidates chosen by the gradient of the transport cost from the
    training text to a target gives the model a lower loss on held-out target text than a random fifth and than the fifth most like the
    target, and holds more of the one kind of the target's text that the model has never seen than these two (Kang et al. 2024: the
    best of the compared selections on understanding and generation, with models up to 2.7B)."""
    from bloomery.lab.selected import BYTES, NAMES, bits, share

    seen = " or ".join(f"document.domain == '{name}'" for name in KNOWN)
    base = lab.world("domains", documents=DOCUMENTS, keep=f"({seen}) and document.id < '{HALF}'", **BYTES)
    world = lab.world("domains", documents=DOCUMENTS)
    model = lab.pretrain(base, keep_state=True)
    candidates = {"from": str(world.corpus.path("train.parquet")), **NAMES}
    trained = {**candidates, "from": str(base.corpus.path("train.parquet")), "domain": "base"}
    free = f"document.domain != 'target' and document.id >= '{HALF}'"
    shown = f"{free} or document.domain == 'target' and document.id < '{SHOWN}'"
    moved = f"{shown} or document.domain == 'base'"
    about = {"sources": [candidates], "edits": [], "signals": ["length"], "near": 0.0, "guard": 0.0, "heldout": 0.02, "keep": free}
    about["budget"] = f"{int(world.corpus.facts['train_bytes'] / 2 * 5 / 6 * PART)}B"
    roles = {"encoder": model}
    arms = {
        "moving": {"sources": [candidates, trained], "keep": moved, "select": {"got_d": {"base": "base"}}},
        "nearest": {"keep": shown, "select": {"rds_plus": {"pooling": "mean"}}},
        "random": {"select": "random"},
    }
    scores, parts = {}, {}
    for arm, knobs in arms.items():
        part = {"part": {"stage": "curate", **about, **knobs, **({"roles": roles} if arm != "random" else {})}}
        steps = {
            **part,
            "words": {"stage": "tokenize", "corpus": "$part", **BYTES},
            "tuned": {"stage": "pretrain", "data": "$words", **lab.defaults, "after": model, "tokens": MORE},
            "scores": {"stage": "evaluate", "model": "$tuned", "corpus": "$corpus", "rivals": [], "batch": 0, "tasks": ["bits_per_byte"]},
        }
        scores[arm], parts[arm] = lab.run(steps, "scores", world), lab.run(part, "part", world)
    loss = {arm: bits(runs, "target") for arm, runs in scores.items()}
    lacking = {arm: share(runs, LACKING) for arm, runs in parts.items()}
    return [
        lab.less("held-out target bits per byte against a random part", loss["moving"], loss["random"], unit="bits/byte"),
        lab.less("held-out target bits per byte against the part most like the target", loss["moving"], loss["nearest"], unit="bits/byte"),
        lab.more("share of the kind that the model lacks against a random part", lacking["moving"], lacking["random"]),
        lab.more("share of the kind that the model lacks against the part most like the target", lacking["moving"], lacking["nearest"]),
    ]
