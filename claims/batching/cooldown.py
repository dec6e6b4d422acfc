"""Claims about repeating a small domain often at first and less later (Cooldown)."""

LARGE, SMALL = 3000, 200  # documents of the two languages, a third of them held out
CORPUS = {
    "stage": "curate", "seed": 0, "signals": ["length"], "near": 0.0, "guard": 0.0, "heldout": 0.33,
    "sources": [
        {"from": "world://twins", "language": "a", "documents": LARGE},
        {"from": "world://twins", "language": "b", "documents": SMALL},
    ],
}  # fmt: skip
BYTES = {"stage": "tokenize", "seed": 0, "corpus": "$pair", "vocab": 262, "sample": "2MB"}
NATS = "heldout_nats_by_domain/b"


def a_falling_temperature_neither_starves_nor_overfits_the_small_language(lab):
    """At equal tokens, with one language thirty times as large in bytes as the other, a temperature that falls from 5 to 1 ends with lower
    held-out nats of the small language than sampling at random by size (temperature 1), and than a constant temperature of 5, which
    overfits it (Li et al. 2024: faster than temperature 1 and better than 5 in the end; no figure in the abstract)."""
    found = {}
    for arm, knobs in {"falls": {"high": 5.0}, "random": {"high": 1.0}, "high": {"high": 5.0, "low": 5.0}}.items():
        steps = {
            "pair": CORPUS,
            "words": BYTES,
            "model": {"stage": "pretrain", "data": "$words", **lab.defaults, "batching": {"cooldown": knobs}},
        }
        found[arm] = lab.run(steps, "model")
    nats = {arm: runs.values(NATS) for arm, runs in found.items()}
    return [
        lab.less("nats per byte of the small language against random sampling by size", nats["falls"], nats["random"], unit="nats"),
        lab.less("nats per byte of the small language against a constant temperature of 5", nats["falls"], nats["high"], unit="nats"),
    ]
