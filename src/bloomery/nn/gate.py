"""Gates of mixtures that choose the experts of the layer after them; Hwang et al. 2023, arXiv 2308.12066.

Shapes: B rows, T tokens, D width, X experts.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class Gate(nn.Module):
    """Scores of experts, (..., X): those that the gate `before` has told, or the first one's own. It tells the next one's in turn.

    `own` and `ahead` are (X, D); `told` are the scores for the next layer of the pass that is under way.
    """

    def __init__(self, weight_XD: nn.Parameter) -> None:
        super().__init__()
        self.own: nn.Parameter | None = weight_XD
        self.register_parameter("ahead", None)
        self.before: tuple[Gate, ...] = ()  # in a tuple, so that it is no part of this module
        self.told: Tensor | None = None

    def forward(self, x_BTD: Tensor) -> Tensor:
        if self.ahead is not None:
            self.told = F.linear(x_BTD, self.ahead)
        if self.own is not None:
            return F.linear(x_BTD, self.own)
        scores = self.before[0].told
        if scores is None or scores.shape[:-1] != x_BTD.shape[:-1]:
            raise RuntimeError("the layer before has not chosen experts for these tokens; layers must run one after the other")
        return scores

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins with nothing told."""
        return {**self.__dict__, "told": None}
