"""The native folder of a model: `model.json` (the configuration) and `model.safetensors` (fp32, or what the model is in)."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer


def plain(net: Transformer) -> dict[str, Tensor]:
    """The weights by name, on the CPU and contiguous; a tied head is left out, since it is the embedding."""
    state = {name: p.detach().cpu().contiguous() for name, p in net.state_dict().items()}
    if net.cfg.tied:
        del state["head.weight"]
    return state


def save(net: Transformer, folder: Path) -> None:
    """Writes `model.json` and `model.safetensors` into `folder`, which must exist."""
    net.cfg.write(folder / "model.json")
    save_file(plain(net), str(folder / "model.safetensors"), metadata={"format": "pt"})


def load(folder: Path, dtype: torch.dtype = torch.float32) -> Transformer:
    """The model in `folder`, ready for inference, its weights in `dtype`; BadInput if the folder is incomplete or damaged."""
    folder = Path(folder)
    try:
        cfg = Config.read(folder / "model.json")
        state = load_file(str(folder / "model.safetensors"))
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{folder} is not a complete bloomery model ({error}); make it again or give another folder") from error
    except (TypeError, ValueError, json.JSONDecodeError) as error:
        raise BadInput(f"{folder / 'model.json'} does not describe a model: {error}") from error
    return assemble(cfg, state, dtype, folder)


def assemble(cfg: Config, state: dict[str, Tensor], dtype: torch.dtype, where: Path) -> Transformer:
    """A model of shape `cfg` that holds `state` (native names), in evaluation mode; BadInput if a name or a shape does not fit."""
    net = Transformer(cfg, None)
    wanted = {name: tuple(p.shape) for name, p in net.named_parameters()}
    given = {name: tuple(t.shape) for name, t in state.items()}
    if wanted != given:
        odd = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        name = odd[0]
        raise BadInput(
            f"the weights in {where} do not fit their configuration at {len(odd)} names: {name} should be "
            f"{wanted.get(name, 'absent')} and is {given.get(name, 'absent')}; take both from the same model"
        )
    state = {name: t.to(dtype) for name, t in state.items()}
    if cfg.tied:
        state["head.weight"] = state["embed.weight"]
    net.load_state_dict(state, assign=True)
    if cfg.tied:
        net.head.weight = net.embed.weight
    return net.eval()
