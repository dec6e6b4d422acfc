"""Claims about how much clean data is worth when it has to be repeated."""

POOLS = {"clean": 0.0, "fair": 0.15, "poor": 0.5}  # share of the words with swapped letters
DOCUMENTS = {"clean": 120, "fair": 500, "poor": 2000}
SIZES = (12_000, 24_000, 48_000, 96_000, 192_000)  # tokens of the runs that the law is fitted to
BUDGETS = (16_000, 240_000)  # tokens at which it chooses
UNIONS = (("clean",), ("clean", "fair"), ("clean", "fair", "poor"))
SMALL = {"width": 64, "layers": 2, "heads": 4, "ffn": 176, "evaluate_every": 0, "schedule": "constant"}


def _source(name):
    """A pool as a source: all of its documents are of one kind."""
    noise = {"noise": 0.0} if name == "clean" else {"noise": 1.0, "swapped": POOLS[name]}
    return {"from": "world://noisy", "documents": DOCUMENTS[name], **noise}


def _corpus(names):
    keep = "document.domain == 'clean' or document.domain == 'corrupted'"  # other kinds of noise are left out
    return {
        "stage": "curate", "seed": 0, "sources": [_source(name) for name in names], "signals": ["length"], "near": 0.0, "guard": 0.0,
        "heldout": 0.02, "keep": keep,
    }  # fmt: skip


def _runs(lab, names, tokens, clean):
    """Bits per byte of clean held-out text after training on a union, one a seed, and the tokens that it holds."""
    steps = {
        "pool": _corpus(names),
        "words": {"stage": "tokenize", "seed": 0, "corpus": "$pool", "vocab": 262, "sample": "2MB"},
        "model": {"stage": "pretrain", "data": "$words", **lab.defaults, **SMALL, "tokens": tokens},
        "scores": {
            "stage": "evaluate", "model": "$model", "corpus": clean, "rivals": [], "batch": 0,
            "tasks": [{"bits_per_byte": {"bytes": 30_000}}],
        },
    }  # fmt: skip
    return lab.run(steps, "scores")


def the_best_union_is_told_by_runs_of_single_pools(lab):
    """Fitted to runs on single pools of three noise levels, the law picks for each of two unseen budgets a union of pools whose clean
    held-out loss is no more than 0.05 bits a byte above the best of the unions that were then trained, and at the larger budget its choice
    beats the rule of always taking the cleanest pool, and a random sample of all text (Goyal et al. 2024: pools chosen by the law are
    the best at each of several budgets; LAION keeps 10% whatever the budget)."""
    from bloomery.methods.law.filtering import Filtering

    most = max(DOCUMENTS.values())  # documents after these are of the same language and in no pool
    clean = lab.world("noisy", noise=0.0, documents=most + 400, keep=f"document.id >= 'noisy-0-{most:06d}'", heldout=0.85).corpus
    fitted = {(name, size): _runs(lab, (name,), size, clean) for name in POOLS for size in SIZES}
    actual = {(union, size): _runs(lab, union, size, clean) for union in UNIONS for size in BUDGETS}
    held = {name: fitted[name, SIZES[0]].runs[0].artifacts["words"].facts["train_tokens"] for name in POOLS}
    chosen, best, cleanest, everything = [], [], [], []
    for place in range(len(lab.seeds)):
        rows = [(name, held[name], size, runs.runs[place].value("bits_per_byte")) for (name, size), runs in fitted.items()]
        law = Filtering().fit(dict(zip(("pool", "held", "tokens", "heldout_nats"), map(list, zip(*rows, strict=True)), strict=True)))
        for size in BUDGETS:
            said = {union: Filtering().predict(law, {"pools": list(union), "tokens": size})["mean"] for union in UNIONS}
            true = {union: actual[union, size].runs[place].value("bits_per_byte") for union in UNIONS}
            chosen.append(true[min(said, key=said.__getitem__)])
            best.append(min(true.values()))
        cleanest.append(true[UNIONS[0]])
        everything.append(true[UNIONS[-1]])
    late = chosen[len(BUDGETS) - 1 :: len(BUDGETS)]
    return [
        lab.less("bits per byte of the chosen unions against the best ones", chosen, best, unit="bits/byte", margin=-0.05),
        lab.less("bits per byte at the larger budget against the cleanest pool", late, cleanest, unit="bits/byte"),
        lab.less("bits per byte at the larger budget against random text of all pools", late, everything, unit="bits/byte", margin=-0.05),
    ]
