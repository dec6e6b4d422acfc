"""Experts that lie on disk: a layer's chosen ones are read when they are needed, or one layer ahead where the model's gates say them then.

P141 Hwang et al. 2023, arXiv 2308.12066. The method `pregated` trains such gates: while a layer computes, a thread reads the experts of the
next. Without them, an expert is read when its layer has chosen it.

Differs: from a file instead of the memory of the host, and each expert is given up after its layer, but for the `held` used last.

Shapes: N tokens, D width, K experts that a token goes to, X experts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from bloomery.core.errors import BadInput
from bloomery.nn.empty import filled
from bloomery.nn.gate import Gate
from bloomery.nn.mixture import Mixture, dispatch
from bloomery.nn.model import Transformer

Place = tuple[int, int]  # layer, expert
Weights = Mapping[str, Tensor]


class Shelf:
    """The experts in a native model's folder, read one by one in the type of the net."""

    def __init__(self, net: Transformer, folder: Path) -> None:
        """BadInput where the folder does not hold each weight of each expert as the net has it: that of another model, or a packed one."""
        self.dtype = net.embed.weight.dtype
        self.shapes = {
            (layer, i): {name: tuple(p.shape) for name, p in expert.named_parameters()}
            for layer, m in mixtures(net).items() for i, expert in enumerate(m.experts)
        }  # fmt: skip
        if not self.shapes:
            raise BadInput("the model has no experts to be kept on disk; load it as it is")
        file = Path(folder) / "model.safetensors"
        try:
            self.file = safe_open(str(file), "pt")
            known = {name: tuple(self.file.get_slice(name).get_shape()) for name in self.file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise BadInput(f"{file} cannot be read ({error}); give the folder that the model was loaded from") from error
        for place, parts in self.shapes.items():
            for name, shape in parts.items():
                if known.get(self._name(place, name)) != shape:
                    raise BadInput(f"{file} holds no plain {self._name(place, name)} of shape {shape}; give the folder of this model")

    def _name(self, place: Place, part: str) -> str:
        return f"blocks.{place[0]}.mlp.experts.{place[1]}.{part}"

    def read(self, place: Place) -> Weights:
        """Weights of one expert, in memory of their own."""
        return {part: self.file.get_tensor(self._name(place, part)).to(self.dtype, copy=True) for part in self.shapes[place]}


def mixtures(net: Transformer) -> dict[int, Mixture]:
    """By layer."""
    return {layer: block.mlp for layer, block in enumerate(net.blocks) if isinstance(block.mlp, Mixture)}


class Fetcher:
    """Keeps the experts of `net` on disk between `with` and its end, when all are read back. Without gradients only.

    `read` gives the weights of an expert, `Shelf(net, folder).read` from the model's own folder. Beside the experts that a layer uses and
    the ones that the next will, `held` stay in memory. Counted are `ahead`, experts that were asked for before their layer chose, `late`
    those that were not, `bytes` read, and `most`, the experts that were in memory at one time.
    """

    def __init__(self, net: Transformer, read: Callable[[Place], Weights], held: int = 0) -> None:
        if held < 0:
            raise BadInput(f"held must not be negative, got {held}")
        self.read, self.held, self.mixtures = read, held, mixtures(net)
        self.ahead = self.late = self.bytes = self.most = 0
        self.here: OrderedDict[Place, Weights] = OrderedDict()  # the first was used longest ago
        self.coming: dict[Place, Future[Weights]] = {}
        self.thread = ThreadPoolExecutor(1, "bloomery-experts")
        self.hooks: list[Any] = []

    def __enter__(self) -> Self:
        layers = list(self.mixtures)
        for layer, after in zip(layers, [*layers[1:], None], strict=True):
            m = self.mixtures[layer]
            for i in range(len(m.experts)):
                self._put((layer, i), None)
            m.across = partial(self._send, layer)
            if after is not None and isinstance(m.router, Gate):
                self.hooks.append(m.router.register_forward_hook(partial(self._foresee, after)))
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.shutdown(cancel_futures=True)
        for hook in self.hooks:
            hook.remove()
        for layer, m in self.mixtures.items():
            m.across = None
            for i in range(len(m.experts)):
                self._put((layer, i), self.here.get((layer, i)) or self.read((layer, i)))

    def _read(self, place: Place) -> Weights:
        """Tensors that outlive the pass they are read in."""
        with torch.inference_mode(False):
            return self.read(place)

    def _put(self, place: Place, weights: Weights | None) -> None:
        """The weights of an expert into their place, or with None shapes alone."""
        expert = self.mixtures[place[0]].experts[place[1]]
        weights = weights or {name: torch.empty_like(p, device="meta") for name, p in expert.named_parameters()}
        filled(expert, weights)

    def _foresee(self, layer: int, gate: Gate, given: Any, scores: Tensor) -> None:
        """Begins to read what a gate has chosen for the next layer."""
        m = self.mixtures[layer]
        probs = gate.told.float().softmax(-1)
        chosen = (probs if m.bias is None else probs + m.bias).topk(m.top, dim=-1).indices
        for i in chosen.unique().tolist():
            place = (layer, i)
            if place not in self.here and place not in self.coming:
                self.coming[place] = self.thread.submit(self._read, place)
        self._count()

    def _send(self, layer: int, x_ND: Tensor, weight_NK: Tensor, chosen_NK: Tensor, experts: nn.ModuleList) -> Tensor:
        """In the place of `dispatch`: the chosen experts are there while it runs."""
        places = [(layer, i) for i in chosen_NK.unique().tolist()]
        for place in places:
            if place in self.here:
                self.here.move_to_end(place)
                continue
            future = self.coming.pop(place, None)
            self.ahead, self.late = self.ahead + (future is not None), self.late + (future is None)
            self.here[place] = self._read(place) if future is None else future.result()
            self.bytes += sum(t.nbytes for t in self.here[place].values())
        self._count()
        for place in places:
            self._put(place, self.here[place])
        made_ND = dispatch(x_ND, weight_NK, chosen_NK, experts)
        for place in places:
            self._put(place, None)
        while len(self.here) > self.held:
            self.here.popitem(last=False)
        return made_ND

    def _count(self) -> None:
        self.most = max(self.most, len(self.here) + len(self.coming))
