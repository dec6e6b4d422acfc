"""The next tokens of several jobs from their logits: overflow, odd filters and guides that fail spoil one of them, not all.

Shapes: N places (a job, and how many tokens after its newest), V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from bloomery.core.rng import torch_rng
from bloomery.infer.asks import Job, Token, scored
from bloomery.infer.filters import draw_tokens, filtered, reads_tokens
from bloomery.seams import Filter

Place = tuple[Job, int]


def choose(places: Sequence[Place], logits_NV: Tensor, seen: Mapping[str, Tensor] | None = None) -> list[tuple[Token, str]]:
    """The token at each place, and what is wrong with it ("" for nothing). `seen` are the logits of other models, (N, V) by name.

    Log-probabilities are told as the model gave them, before guides and filters.
    """
    given_NV, (logits_NV, failed) = logits_NV, allowed(places, logits_NV)
    chosen, finite = likeliest(logits_NV)
    wrong = [failed.get(i) or ("" if fine else "the model gave no number") for i, fine in enumerate(finite)]
    for filters, rows, so_far in grouped(places, wrong):
        try:
            draws = torch.tensor([[number(*places[i])] for i in rows], dtype=torch.float64)
            own, others = at(rows, len(places), logits_NV, seen)
            for i, token in zip(rows, draw_tokens(own, so_far, filters, draws, others).tolist(), strict=True):
                chosen[i] = token
        except Exception as error:
            for i in rows:
                wrong[i] = f"{type(error).__name__} in the filters"
    told = logged(places, given_NV, chosen)
    return [(told.get(i) or Token(chosen[i]), wrong[i]) for i in range(len(places))]


def likeliest(logits_NV: Tensor) -> tuple[list[int], list[bool]]:
    """The place of each row's largest number, or of its first that is none, and whether it is a finite one. In a processor's memory
    numpy's search takes a fifth of the time of torch's, and a twentieth in bfloat16."""
    if logits_NV.device.type != "cpu":
        return largest(logits_NV)
    found_NV = logits_NV.detach().float().numpy()
    best_N = found_NV.argmax(-1)
    return best_N.tolist(), np.isfinite(found_NV[np.arange(len(best_N)), best_N]).tolist()


def largest(logits_NV: Tensor) -> tuple[list[int], list[bool]]:
    """The same where the numbers lie, so that no more than one of a row leaves its device."""
    best = logits_NV.max(-1)
    return best.indices.tolist(), best.values.isfinite().tolist()


def allowed(places: Sequence[Place], logits_NV: Tensor) -> tuple[Tensor, dict[int, str]]:
    """The logits with minus infinity where a job's guide does not let a token stand: that of its newest place, one place a job. And by
    place, what is wrong where a guide cannot say: after any token a grammar may turn out too large for its library."""
    guided, failed = [i for i, (job, _) in enumerate(places) if job.guided is not None], dict[int, str]()
    if not guided:
        return logits_NV, failed
    logits_NV = logits_NV.clone()
    for i in guided:
        job = places[i][0]
        try:
            refused_V = torch.from_numpy(~job.guided.allowed(logits_NV.shape[1], job.ask.stop_ids)).to(logits_NV.device)
            logits_NV[i].masked_fill_(refused_V, float("-inf"))
        except Exception as error:
            failed[i] = f"{type(error).__name__} in the guide: {error}"
    return logits_NV, failed


def grouped(places: Sequence[Place], wrong: Sequence[str]) -> Iterator[tuple[tuple[Filter, ...], list[int], Tensor | None]]:
    """Filters, and the places of the jobs that are sampled with them; of those that look at the tokens so far one place each, with its
    tokens (1, T): a job's newest place."""
    groups: dict[tuple[Filter, ...], list[int]] = {}
    for i, (job, _) in enumerate(places):
        if job.ask.filters and not wrong[i]:
            groups.setdefault(job.ask.filters, []).append(i)
    for filters, rows in groups.items():
        if not reads_tokens(filters):
            yield filters, rows, None
            continue
        for i in rows:
            job = places[i][0]
            yield filters, [i], torch.tensor([[*job.ask.prompt, *job.ids]])


def at(rows: list[int], of: int, logits_NV: Tensor, seen: Mapping[str, Tensor] | None) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits of some places."""
    if len(rows) == of:
        return logits_NV, dict(seen or {})
    return logits_NV[rows], {name: one[rows] for name, one in (seen or {}).items()}


def logged(places: Sequence[Place], logits_NV: Tensor, chosen: Sequence[int]) -> dict[int, Token]:
    """Tokens with log-probabilities, where a job asks for them."""
    asked = [i for i, (job, _) in enumerate(places) if job.ask.logprobs is not None]
    if not asked:
        return {}
    most = max(places[i][0].ask.logprobs for i in asked)
    return dict(zip(asked, scored(logits_NV[asked], [chosen[i] for i in asked], most), strict=True))


def probabilities(places: Sequence[Place], logits_NV: Tensor, seen: Mapping[str, Tensor] | None = None) -> tuple[Tensor, bool]:
    """What the filters of each place leave of its distribution, (N, V) fp64, and whether all of them could say; of a greedy job, and of
    one whose filters fail, all is on its likeliest token."""
    fine, found = True, torch.zeros(logits_NV.shape, dtype=torch.float64, device=logits_NV.device)
    found.scatter_(1, torch.tensor(likeliest(logits_NV)[0], device=logits_NV.device)[:, None], 1.0)
    for filters, rows, so_far in grouped(places, [""] * len(places)):
        own, others = at(rows, len(places), logits_NV, seen)
        try:
            found[rows] = filtered(own, so_far, filters, others).softmax(-1).double()
        except Exception:  # whoever chooses these tokens meets it again, and tells it
            fine = False
    return found, fine


def number(job: Job, ahead: int = 0) -> float:
    """The uniform number for a job's token after next; all are drawn at once."""
    if not job.draws:
        job.draws = torch.rand(job.limit, dtype=torch.float64, generator=torch_rng(job.ask.rng)).tolist()
    return job.draws[len(job.ids) + ahead]


def inverted(weights_NV: Tensor, draws_N1: Tensor) -> list[list[int]]:
    """One token for each row of weights, at a share of their cumulative sum: N lists of one."""
    reached = weights_NV.cumsum(-1)
    found = torch.searchsorted(reached, draws_N1.to(reached.device) * reached[:, -1:], right=True)
    return found.clamp_(max=reached.shape[1] - 1).tolist()
