"""Which weights stay when others become zero, by a score for each.

Shapes: O outputs, I inputs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad


def pattern(text: str) -> tuple[int, int] | None:
    """(2, 4) of "2:4": weights that stay of how many in a row; None for "". ValueError for anything else."""
    if not text:
        return None
    left, _, of = text.partition(":")
    if not (left.isdigit() and of.isdigit() and 1 <= int(left) < int(of)):
        raise ValueError(f"pattern must be like 2:4, fewer weights of more in a row, got {text!r}")
    return int(left), int(of)


def highest(score_OI: Tensor, zeros: float, kept: tuple[int, int] | None = None, over: str = "row") -> Tensor:
    """True where a weight stays: all but the share `zeros` with the lowest scores, of each row or of the matrix `over` which they are
    compared, or `kept` = (n, m) the n highest of every m inputs. Of equal scores the first stays."""
    if kept is not None:
        return within_groups(score_OI, *kept)
    flat = score_OI.flatten()[None] if over == "matrix" else score_OI
    order = flat.argsort(dim=1, stable=True, descending=True)
    stay = flat.shape[1] - round(zeros * flat.shape[1])
    mask = torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order[:, :stay], True)
    return mask.view(score_OI.shape)


def within_groups(score_OI: Tensor, stay: int, of: int) -> Tensor:
    """True for the `stay` highest of every `of` inputs; where these do not divide a row, its last group is narrower."""
    rows, columns = score_OI.shape
    score = pad(score_OI, (0, -columns % of), value=-torch.inf).view(rows, -1, of)
    order = score.argsort(dim=-1, stable=True, descending=True)
    mask = torch.zeros_like(score, dtype=torch.bool).scatter_(-1, order[..., :stay], True)
    return mask.view(rows, -1)[:, :columns]


def check(zeros: float, text: str) -> None:
    """ValueError for a share that is none and a pattern that is none."""
    if not 0 < zeros < 1:
        raise ValueError(f"zeros must be between 0 and 1, got {zeros}")
    pattern(text)
