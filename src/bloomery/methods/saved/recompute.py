from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bloomery.seams import Site

PLACES = ("block", "mixer", "mlp", "norm", "linear")


@dataclass(frozen=True)
class Recompute:
    """Chosen sites keep what goes in alone, and are computed once more when the backward pass comes to them: the same gradients.

    Chen et al. 2016, arXiv 1604.06174
    Differs: sites and layers are chosen by name, as in the selective form of Korthikanti et al. 2022, arXiv 2205.05198; the numbers
        computed again are the same to the bit, since nothing in a model draws from a shared generator.
    Costs: another forward pass of the chosen sites; of one of them everything is kept while its backward pass runs.
    """

    sites: tuple[str, ...] = ("block",)  # kinds (block, mixer, mlp, norm, linear), or ends of names such as mlp.down
    every: int = 1  # one layer in so many, the first among them

    def __post_init__(self) -> None:
        if self.every < 1 or not self.sites:
            raise ValueError(f"every must be at least 1 and sites not empty, got {self.every} and {self.sites}")
        if odd := [name for name in self.sites if name not in PLACES and "." not in name]:
            raise ValueError(f"sites may name {', '.join(PLACES)}, or a part such as mlp.down, not {odd[0]!r}")

    def again(self, site: Site) -> bool:
        """Whether a site is computed twice."""
        if site.layer < 0 or site.layer % self.every:
            return False
        return any(site.kind == name or site.name.endswith(f".{name}") for name in self.sites)

    def pack(self, t: Tensor, site: Site) -> Any:
        """What is kept at all is kept as it is."""
        return t

    def unpack(self, h: Any) -> Tensor:
        """The same."""
        return h
