"""Claims about choosing documents like those whose losses tell good models from bad ones."""

DOCUMENTS = 3000
MIXES = (("verse", "code"), ("verse", "plain"), ("code", "list"), ("verse", "dialog"), ("dialog", "list"))  # what each model is trained on
PART = 0.25  # of the text that is not the target's is chosen
SMALL = {"width": 64, "layers": 2, "heads": 4, "ffn": 176, "tokens": 300_000}  # models that are asked, and students
SAMPLE = 0.4  # of the documents the models are asked on


def losses_that_predict_teach(lab):
    """At equal bytes, which are the students' tokens, a quarter of five kinds of text that reads like the documents whose losses rank five
    models as a target does, which is made of three of the kinds, gives a student a lower loss on held-out target text than a random
    quarter and than the quarter of lowest perplexity under a model of all; more of it is of the three kinds (Shum et al. 2025: 30B chosen
    tokens do what 300B others do)."""
    from bloomery.data.worlds.domains import TARGET
    from bloomery.lab.selected import BYTES, NAMES, bits, share

    world = lab.world("domains", documents=DOCUMENTS)
    source = {"from": str(world.corpus.path("train.parquet")), **NAMES}
    about = {"sources": [source], "edits": [], "signals": ["length"], "near": 0.0, "guard": 0.0, "heldout": 0.02}

    def student(part, seeds=None):
        steps = {
            "part": {"stage": "curate", **about, **part},
            "words": {"stage": "tokenize", "corpus": "$part", **BYTES},
            "student": {"stage": "pretrain", "data": "$words", **lab.defaults, **SMALL},
            "scores": {"stage": "evaluate", "model": "$student", "corpus": "$corpus", "rivals": [], "batch": 0, "tasks": ["bits_per_byte"]},
        }
        return lab.run(steps, "scores", world, seeds=seeds)

    kinds = [" or ".join(f"document.domain == '{name}'" for name in mix) for mix in MIXES]
    asked = [student({"keep": keep}, [lab.tuning_seed]) for keep in kinds]
    ranked = sorted(asked, key=lambda runs: -bits(runs, "target")[0])  # from the worst to the best
    roles = {f"rank{k}": runs.runs[0].artifacts["student"] for k, runs in enumerate(ranked)}
    about |= {"keep": "document.domain != 'target'", "budget": f"{int(world.corpus.facts['train_bytes'] * PART * 5 / 6)}B"}
    strength = {"preselect": {"models": list(roles), "sample": SAMPLE}}
    plain = lab.pretrain(world, seeds=[lab.tuning_seed], **SMALL).runs[0]
    arms = {
        "preselect": {"signals": ["length", strength], "roles": roles, "select": "preselect"},
        "perplexity": {
            "signals": ["perplexity"], "roles": {"reference": plain}, "select": {"top": {"column": "perplexity.nats", "lowest": True}},
        },
        "random": {"select": "random"},
    }  # fmt: skip
    loss = {arm: bits(runs, "target") for arm, runs in {arm: student(part) for arm, part in arms.items()}.items()}
    parts = {arm: lab.run({"part": {"stage": "curate", **about, **arms[arm]}}, "part", world) for arm in ("preselect", "random")}
    shares = {arm: share(runs, TARGET) for arm, runs in parts.items()}
    what = "held-out target bits per byte against"
    return [
        lab.less(f"{what} a random part", loss["preselect"], loss["random"], unit="bits/byte"),
        lab.less(f"{what} the part of lowest perplexity", loss["preselect"], loss["perplexity"], unit="bits/byte"),
        lab.more("share of the chosen bytes of the target's kinds against a random part", shares["preselect"], shares["random"]),
    ]
