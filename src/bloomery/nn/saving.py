"""The native folder of a model: `model.json` (the configuration) and `model.safetensors` (fp32, or what the model is in), with packed
linears and `quantization.json` where the model was compressed (see nn/packed.py)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bloomery.core.errors import BadInput
from bloomery.nn import packed
from bloomery.nn.config import Config
from bloomery.nn.model import INIT, Transformer
from bloomery.nn.modules import rebuild


def plain(net: Transformer) -> dict[str, Tensor]:
    """The weights by name, dense, on the CPU and contiguous; a tied head is left out, since it is the embedding."""
    state = {name: p.detach().cpu().contiguous() for name, p in net.state_dict().items()}
    if net.cfg.tied:
        del state["head.weight"]
    return state


def save(net: Transformer, folder: Path, skipped: Mapping[str, str] | None = None, rest: torch.dtype | None = None) -> None:
    """Writes `model.json` and `model.safetensors` into `folder`, which must exist; quantized linears are packed.

    `skipped` says of a compressed model why layers were left as they are; `rest` is the type in which their matrices are stored.
    ValueError rather than a file that would be read back as other numbers.
    """
    small = {name: unit.packed for name, unit in net.named_modules() if isinstance(unit, packed.Quantized)}
    net.cfg.write(folder / "model.json")
    save_file(stored(plain(net), small, rest), str(folder / "model.safetensors"), metadata={"format": "pt"})
    if small or packed.rounding(net):
        packed.write(folder, small, skipped or {}, packed.rounding(net))


def stored(state: dict[str, Tensor], small: Mapping[str, packed.Stored], rest: torch.dtype | None) -> dict[str, Tensor]:
    """The tensors of a file: dense weights by name, those of `small` as they are packed, other matrices in the type `rest`.

    ValueError rather than what would be read back as other numbers.
    """
    state = dict(state)
    for name, one in small.items():
        weight = state.pop(f"{name}.weight")
        if not weight.equal(one.dense().cpu().to(weight.dtype)):
            raise ValueError(f"the weight of {name} is no longer what its codes stand for; put a plain linear in its place")
    if rest is not None:
        state = {name: lossless(name, t, rest) if t.dim() > 1 else t for name, t in state.items()}
    return state | {f"{name}.{part}": t for name, one in small.items() for part, t in one.tensors().items()}


def lossless(name: str, t: Tensor, dtype: torch.dtype) -> Tensor:
    """The same numbers in another type; ValueError where the type does not hold them."""
    other = t.to(dtype)
    if not other.to(t.dtype).equal(t):
        raise ValueError(f"{name} holds numbers that {dtype} does not; round it before saving")
    return other


def digest(net: Transformer) -> str:
    """sha256 over names, types, shapes and bytes of the dense weights."""
    return digest_of({name: fingerprint(t) for name, t in plain(net).items()})


def fingerprint(t: Tensor) -> str:
    """sha256 over type, shape and bytes of one tensor on the CPU."""
    total = hashlib.sha256(f"{t.dtype} {tuple(t.shape)}".encode())
    total.update(t.contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


def digest_of(fingerprints: Mapping[str, str]) -> str:
    """The digest of a model from the fingerprints of its dense weights."""
    return hashlib.sha256("\n".join(f"{name} {one}" for name, one in sorted(fingerprints.items())).encode()).hexdigest()


def load(folder: Path, dtype: torch.dtype = torch.float32, budget: float | None = None) -> Transformer:
    """The model in `folder` with dense weights in `dtype`, ready for inference; BadInput if the folder is incomplete or damaged.

    Of linears stored as stacks of blocks, only as many blocks are used as `budget` bytes of linears hold; None: all that are stored.
    """
    folder = Path(folder)
    try:
        cfg = Config.read(folder / "model.json")
        state = load_file(str(folder / "model.safetensors"))
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{folder} is not a complete bloomery model ({error}); make it again or give another folder") from error
    except (TypeError, ValueError, json.JSONDecodeError) as error:
        raise BadInput(f"{folder / 'model.json'} does not describe a model: {error}") from error
    small = packed.take(folder, state, budget)
    doubled = sorted(f"{name}.weight" for name in small if f"{name}.weight" in state)
    if doubled:
        raise BadInput(f"{folder} holds {doubled[0]} both packed and dense; make the model again")
    state |= {f"{name}.weight": one.dense().to(dtype) for name, one in small.items()}
    net = assemble(cfg, state, dtype, folder)
    for name, one in small.items():
        if getattr(one, "inputs", ""):  # what such a linear does to its inputs is a part of the model
            net.set_submodule(name, packed.Quantized(one, net.get_submodule(name).bias, dtype))
    for name, rounds in packed.mixers(folder).items():
        net.get_submodule(name).rounds = rounds
    return net


def assemble(cfg: Config, state: dict[str, Tensor], dtype: torch.dtype, where: Path) -> Transformer:
    """A model of shape `cfg` that holds `state` (native names), in evaluation mode; BadInput if a name or a shape does not fit.

    Modules of methods that `cfg` names are built anew; `state` has their buffers too.
    """
    net = rebuild(Transformer(cfg, INIT)) if cfg.modules else Transformer(cfg, None)
    wanted = {name: tuple(p.shape) for name, p in net.state_dict().items() if not (cfg.tied and name == "head.weight")}
    given = {name: tuple(t.shape) for name, t in state.items()}
    if wanted != given:
        odd = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
        name = odd[0]
        raise BadInput(
            f"the weights in {where} do not fit their configuration at {len(odd)} names: {name} should be "
            f"{wanted.get(name, 'absent')} and is {given.get(name, 'absent')}; take both from the same model"
        )
    state = {name: t.to(dtype) if t.is_floating_point() else t for name, t in state.items()}
    if cfg.tied:
        state["head.weight"] = state["embed.weight"]
    net.load_state_dict(state, assign=True)
    if cfg.tied:
        net.head.weight = net.embed.weight
    return net.eval()
