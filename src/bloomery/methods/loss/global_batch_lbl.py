from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.nn.mixture import given
from bloomery.seams import Batch, Loss, Rng

# Shapes: B rows, T tokens, X experts of a layer, K experts that a token goes to.

PIECE = 8192  # tokens that the model reads at once when it only counts
Told = tuple[Tensor, Tensor]  # probs (B, T, X) and chosen (B, T, K) of one layer


@dataclass(frozen=True)
class GlobalBatchLbl:
    """Another loss, and one that asks the experts of a mixture to be used evenly over the whole step, not within every micro-batch.

    P072 Qiu et al. 2025, arXiv 2501.11873
    Differs: frequencies are counted in a forward pass over the whole step beforehand, where the paper keeps a buffer that fills while
    micro-batches accumulate, so the first of them is balanced as exactly as the last; they sum to 1 over the experts, so a balanced
    layer costs 1 whatever the number of experts of a token; the mean over layers is taken.
    Costs: a forward pass of the step without gradients; none with scope "micro", the usual practice.
    """

    inner: Loss = "cross_entropy"  # the loss that is trained besides
    coefficient: float = 0.01  # weight of the balance
    scope: Literal["global", "micro"] = "global"  # over what the frequencies of the experts are counted

    def __post_init__(self) -> None:
        if self.coefficient < 0:
            raise ValueError(f"coefficient must not be negative, got {self.coefficient}")

    @property
    def roles(self) -> tuple[str, ...]:
        """Those of the inner loss."""
        return self.inner.roles

    @property
    def opens(self) -> bool:
        """Whether the inner loss looks inside the model; this one is told by the model itself."""
        return getattr(self.inner, "opens", False)

    def parts(self, net: nn.Module, rng: Rng) -> dict[str, nn.Module]:
        """Those of the inner loss."""
        return self.inner.parts(net, rng) if hasattr(self.inner, "parts") else {}

    def weigh(self, batch: Batch) -> dict[str, float]:
        """The inner denominators, and the tokens that are no padding."""
        return {**self.inner.weigh(batch), "balance": float((batch.documents >= 0).sum())}

    @torch.no_grad()
    def look(self, roles: Mapping[str, nn.Module], batch: Batch, rng: Rng) -> dict[str, Tensor]:
        """How often each expert is chosen in the whole step, {"router/LAYER": (X)}, beside what the inner loss has seen."""
        seen = dict(self.inner.look(roles, batch, rng)) if hasattr(self.inner, "look") else {}
        if self.scope == "micro":
            return seen
        rows, counts = max(1, PIECE // batch.inputs.shape[1]), {}
        for at in range(0, len(batch.inputs), rows):
            tokens, positions, documents = (x[at : at + rows] for x in (batch.inputs, batch.positions, batch.documents))
            aux: dict[str, list[Any]] = {}
            roles["net"](tokens, positions, documents, aux=aux)
            for layer, one in enumerate(routers(aux)):
                counts[layer] = counts.get(layer, 0) + given(one[1], one[0].shape[-1], documents).float()
        return seen | {f"router/{layer}": count / count.sum().clamp(min=1) for layer, count in counts.items()}

    def terms(self, roles: Mapping[str, nn.Module], batch: Batch, seen: Mapping[str, Tensor], rng: Rng) -> dict[str, Tensor]:
        """The inner sums, and "balance": coefficient x X x sum over tokens and experts of frequency x probability, mean over layers;
        frequencies that were not looked at are those of this batch. BadInput where the model has no mixture of experts.
        """
        heard: list[tuple[Tensor, dict]] = []
        sums = self.inner.terms({**roles, "net": _Listening(roles["net"], heard)}, batch, seen, rng)
        balance = []
        for documents, aux in heard:
            real = documents >= 0
            for layer, one in enumerate(routers(aux)):
                shares = seen[name] if (name := f"router/{layer}") in seen else given(one[1], one[0].shape[-1], documents).float()
                shares = shares / shares.sum().clamp(min=1e-9)
                balance.append(one[0].shape[-1] * (shares * one[0][real].sum(0)).sum())
        return {**sums, "balance": self.coefficient * torch.stack(balance).sum() * len(heard) / len(balance)}


class _Listening:
    """Called like the net, and everything else of it; keeps what the modules of each pass tell."""

    def __init__(self, net: nn.Module, heard: list[tuple[Tensor, dict]]) -> None:
        self._net, self._heard = net, heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._net, name)

    def __call__(self, tokens: Tensor, positions: Tensor | None = None, documents: Tensor | None = None, **more: Any) -> Tensor:
        aux = more.pop("aux", None)
        aux = {} if aux is None else aux
        hidden = self._net(tokens, positions, documents, aux=aux, **more)
        self._heard.append((torch.zeros_like(tokens) if documents is None else documents, aux))
        return hidden


def routers(aux: Mapping[str, list[Any]]) -> list[Told]:
    """What the routers told, layer by layer."""
    if not aux.get("router"):
        raise BadInput("loss: global_batch_lbl balances the experts of a mixture and the model has none; say `experts: 8`")
    return aux["router"]
