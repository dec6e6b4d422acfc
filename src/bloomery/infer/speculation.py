"""Speculative decoding: guesses at the next tokens, which the model then judges all in one step.

A step of few rows is bound by the reading of weights, so judging five tokens costs little more than one. What comes out is what the model
alone would give. Of fixed guesses (`PromptLookup`) the token at each place is chosen as ever, with the same random number, and a guess
counts where it is that token: text and seeds are those of plain decoding. A `Draft` model draws its guesses; they are accepted by
rejection, which leaves the model's distribution as it is, though a seed gives other tokens than it does without a draft. Greedy text is
the same with either.

Source: Leviathan et al. 2022, arXiv 2211.17192, and Chen et al. 2023, arXiv 2302.01318 (drafts and rejection); Yang et al. 2023, arXiv
2304.04487 (guesses out of the text itself).
Shapes: G guesses, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.infer.choosing import inverted
from bloomery.infer.pages import PAGE
from bloomery.nn.model import Transformer


@dataclass(frozen=True)
class PromptLookup:
    """Guesses that the newest tokens go on as they did where they last occurred, in the prompt or in the answer so far."""

    ahead: int = 4  # tokens guessed at most
    longest: int = 4  # newest tokens that must have occurred; fewer are tried next
    shortest: int = 2

    @property
    def told(self) -> str:
        return f"up to {self.ahead} tokens ahead guessed from the text itself"

    def __post_init__(self) -> None:
        bounded(self.ahead)
        if not 1 <= self.shortest <= self.longest:
            raise BadInput(f"prompt lookup: shortest must be from 1 to longest, got {self.shortest} and {self.longest}")


@dataclass(frozen=True)
class Draft:
    """A smaller model of the same tokens, which says what may come next."""

    net: Transformer
    ahead: int = 4  # tokens that it writes before they are judged

    @property
    def told(self) -> str:
        return f"{self.ahead} tokens ahead drafted by a model of {self.net.cfg.matmul_parameters() / 1e6:,.1f}M matmul parameters"

    def __post_init__(self) -> None:
        bounded(self.ahead)


def bounded(ahead: int) -> None:
    """BadInput for more guesses than a step takes."""
    if not 1 <= ahead < PAGE:
        raise BadInput(f"ahead: from 1 to {PAGE - 1} tokens can be guessed at a time, got {ahead}")


class Lookup:
    """One text and where its runs of tokens last occurred; a token costs as many look-ups as there are lengths of runs."""

    def __init__(self, how: PromptLookup, ids: Sequence[int]) -> None:
        self.how, self.ids = how, []
        self._last: dict[tuple[int, ...], int] = {}
        self._before: list[int | None] = []  # where the newest run of each length ended before, the longest first
        self.extend(ids)

    def extend(self, ids: Sequence[int]) -> None:
        """More tokens of the text."""
        lengths = range(self.how.longest, self.how.shortest - 1, -1)
        for token in ids:
            self.ids.append(token)
            end, self._before = len(self.ids), []
            for length in lengths:
                if length <= end:
                    run = tuple(self.ids[end - length :])
                    self._before.append(self._last.get(run))
                    self._last[run] = end

    def guess(self, most: int) -> list[int]:
        """At most so many tokens; none where nothing like the end has occurred."""
        at = next((end for end in self._before if end is not None), None)
        return [] if at is None else self.ids[at : at + min(most, self.how.ahead)]


def judge(
    guesses: Sequence[int], model_GV: Tensor, draft_GV: Tensor, accept: Sequence[float], draw: Sequence[float]
) -> tuple[int, int]:  # fmt: skip
    """How many guesses stand, and the token after them.

    `model_GV` are the model's probabilities at each guess and after the last, one row more than `draft_GV`, those that the guesses were
    drawn from. A guess stands with the probability min(1, model / draft); for the first that does not, a token is drawn from what the
    model has above the draft, and after the last guess from the model itself. `accept` and `draw` are uniform numbers, one for each place.
    """
    for i, token in enumerate(guesses):
        model, draft = model_GV[i], draft_GV[i]
        if accept[i] * float(draft[token]) < float(model[token]):
            continue
        rest = (model - draft).clamp_(min=0)
        return i, drawn(rest if float(rest.sum()) > 0 else model, draw[i])
    return len(guesses), drawn(model_GV[len(guesses)], draw[len(guesses)])


def drawn(weights_V: Tensor, number: float) -> int:
    """The token at a share of the cumulative sum."""
    return inverted(weights_V[None], torch.tensor([[number]], dtype=weights_V.dtype))[0][0]
