"""Claims about finding a mixture of domains by regression."""

from pathlib import Path
from tempfile import TemporaryDirectory

PARTS = ("plain", "verse", "list", "code", "dialog")  # what is mixed; the sixth domain of the world is the target, and only measured
NATURAL = dict.fromkeys(PARTS, 0.2)
TARGET, KNOB = "heldout_nats/target", "batching.mixture.weights"
PROXIES, OTHERS = 16, 8  # proxies that the regression is fitted to, and further ones that only judge it
MEASURED = {"evaluate_every": 100_000, "evaluate_tokens": 49152}
PROXY = {"width": 32, "layers": 2, "heads": 2, "ffn": 88, "tokens": 60_000, "batch": 1024, **MEASURED}
FINAL = {"tokens": 200_000, **MEASURED}  # the lab's own size: ten times the parameters, three times the tokens


def finds_a_better_mixture_than_its_proxies_saw(lab):
    """A larger model on the mixture that 16 small proxies suggest ends lower on the target domain than on the natural mixture, and no
    higher than on the best mixture of any proxy by more than 0.02 nats; on mixtures that it has not seen the regression ranks small
    runs with a correlation above 0.7 (Liu et al. 2024: 512 proxies of 1M parameters, the best of 64 mixtures at 1B)."""
    import math

    from bloomery.lab.search import pretraining, search
    from bloomery.methods.search.regmix import Regmix

    found, natural, proxied, ranks = [], [], [], []
    for seed in lab.seeds:
        rng = lab.rng("regmix", seed)
        method = Regmix(NATURAL, KNOB, PROXIES, TARGET)
        run = pretraining(lab, seed, "domains", {"proxy": PROXY, "final": FINAL})
        with TemporaryDirectory() as folder:
            tried = search(method, run, Path(folder) / "journal.jsonl", rng)
        proxies, final = tried[:PROXIES], tried[-1]
        best = min(proxies, key=lambda one: one.figures.get(TARGET, math.inf)).trial[KNOB]
        others = [{KNOB: one, "phase": "proxy"} for one in method.proxies(PROXIES + OTHERS, rng)[PROXIES:]]
        plain, rival = run([({KNOB: mixture, "phase": "final"}, "") for mixture in (NATURAL, best)])
        judged = [one.figures.get(TARGET, math.nan) for one in run([(trial, "") for trial in others])]
        regression = method.fitted([(one.trial, one.figures) for one in proxies])
        predicted = regression([[trial[KNOB].get(name, 0.0) for name in PARTS] for trial in others])
        found.append(final.figures.get(TARGET, math.nan))
        natural.append(plain.figures.get(TARGET, math.nan))
        proxied.append(rival.figures.get(TARGET, math.nan))
        ranks.append(correlation(list(predicted), judged) if all(map(math.isfinite, judged)) else math.nan)
    return [
        lab.less("held out on the target, against the natural mixture", found, natural, unit="nats/token"),
        lab.less("held out on the target, against the best proxy's mixture", found, proxied, unit="nats/token", margin=-0.02),
        lab.more("rank correlation on other mixtures", ranks, [0.7] * len(lab.seeds)),
    ]


def correlation(a, b):
    """Of ranks, after Spearman."""
    import numpy as np

    return float(np.corrcoef(*(np.argsort(np.argsort(column)) for column in (a, b)))[0, 1])
