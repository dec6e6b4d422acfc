"""Memory for modules that have shapes alone, and places of those that lie elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class Unfilled(TorchFunctionMode):
    """Modules that are made within are not initialized by torch, nor is its default generator used.

    For parameters that have shapes alone that costs more than it looks: their normal numbers load the compiler, about two seconds.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


class Elsewhere(nn.Module):
    """In the place of a part of a model that another rank has."""

    def forward(self, *args: Any, **named: Any) -> torch.Tensor:
        raise RuntimeError("this part of the model lies on another rank")


def emptied(module: nn.Module, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
    """`module` with every parameter and buffer replaced by memory of its shape that holds nothing yet; one that is shared stays shared.
    With a `dtype` the parameters are of that type.

    `nn.Module.to_empty` does the same to real tensors and fails with those that have shapes alone, which forecasts are made with.
    """
    known: dict[int, torch.Tensor] = {}
    for unit in module.modules():
        for name, p in unit._parameters.items():
            if p is not None:
                if id(p) not in known:
                    known[id(p)] = nn.Parameter(torch.empty_like(p, device=device, dtype=dtype), p.requires_grad)
                unit._parameters[name] = known[id(p)]
        for name, t in unit._buffers.items():
            if t is not None:
                unit._buffers[name] = known.setdefault(id(t), torch.empty_like(t, device=device))
    return module


def outline(module: nn.Module) -> nn.Module:
    """A copy whose parameters have shapes alone, so that it takes no memory."""
    known = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in module.parameters()}
    return deepcopy(module, known)


def filled(module: nn.Module, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """`module` with these parameters in place of its own, by name; one that is shared stays shared, and the others stay as they are."""
    parameters = dict(module.named_parameters())
    own = {id(p): name for name, p in parameters.items()}
    made = {name: nn.Parameter(weight, parameters[name].requires_grad) for name, weight in weights.items()}
    for unit in module.modules():
        for key, p in unit._parameters.items():
            if p is not None and own[id(p)] in made:
                unit._parameters[key] = made[own[id(p)]]
    return module
