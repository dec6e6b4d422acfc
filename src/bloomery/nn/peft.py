"""Adapters in the file format of Hugging Face's `peft`: `adapter_config.json` and `adapter_model.safetensors`, in and out.

Only low-rank adapters on the linears of the blocks, and full copies of embeddings, head and norms; all else is refused by name.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bloomery.core.adapter import located
from bloomery.core.errors import BadInput
from bloomery.nn.hf import tensors, turned
from bloomery.nn.lora import LoraLinear, Part, parts
from bloomery.nn.mapping import Tensors
from bloomery.nn.model import Transformer
from bloomery.nn.sites import sites

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
COPIED = ("embed", "head", "norm")  # kinds of sites that may be stored whole
READ = {  # entries that decide what is computed, with what a missing one means
    "peft_type": None, "task_type": None, "r": 8, "lora_alpha": 8, "lora_dropout": 0.0, "target_modules": None, "exclude_modules": None,
    "bias": "none", "use_rslora": False, "modules_to_save": None, "layers_to_transform": None, "layers_pattern": None, "rank_pattern": {},
    "alpha_pattern": {}, "init_lora_weights": True, "ensure_weight_tying": False, "base_model_name_or_path": None, "revision": None,
}  # fmt: skip
IDLE = {  # entries that change nothing where the rest is as we read it; any other that is set is refused
    "inference_mode", "auto_mapping", "peft_version", "fan_in_fan_out", "megatron_core", "loftq_config", "eva_config", "corda_config",
    "lora_ga_config", "runtime_config", "qalora_group_size", "parent_library",
}  # fmt: skip
DRAWS = (True, False, "gaussian", "eva", "orthogonal")  # beginnings that leave the base as it is


@dataclass(frozen=True)
class Target:
    """One adapted matrix: its module's name in transformers, rank and alpha."""

    theirs: str
    rank: int
    alpha: float


# ---- the configuration --------------------------------------------------------------------------------------------------


def is_adapter(folder: Path) -> bool:
    """Whether a folder says that it holds an adapter."""
    return (Path(folder) / CONFIG).is_file()


def read(folder: Path) -> dict[str, Any]:
    """The entries of `adapter_config.json` that matter, with defaults; BadInput names what this program would compute differently."""
    where = Path(folder) / CONFIG
    try:
        stored = json.loads(where.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder} has no readable {CONFIG} ({error}); give a folder that peft wrote") from error
    if not isinstance(stored, dict):
        raise BadInput(f"{where} should hold entries by name; give a folder that peft wrote")
    if stored.get("peft_type") != "LORA":
        raise BadInput(f"{where}: peft_type {stored.get('peft_type')!r} is not supported, only 'LORA'; merge the adapter with peft")
    config = {name: usual if stored.get(name) is None else stored[name] for name, usual in READ.items()}
    set_ = [name for name, value in stored.items() if name not in READ and name not in IDLE and value not in (None, False, [], {}, "")]
    only = {"task_type": (None, "CAUSAL_LM"), "bias": ("none",), "init_lora_weights": DRAWS}
    odd = [(name, config[name]) for name, allowed in only.items() if config[name] not in allowed]
    for name, value in [*odd, *((name, stored[name]) for name in set_)]:
        raise BadInput(f"{where}: {name} {value!r} is not supported; merge the adapter with peft")
    ranks = [config["r"], *config["rank_pattern"].values()]
    alphas = [config["lora_alpha"], *config["alpha_pattern"].values()]
    if not all(isinstance(r, int) and r > 0 for r in ranks) or not all(isinstance(a, int | float) for a in alphas):
        raise BadInput(f"{where}: ranks must be whole numbers above 0 and alphas numbers; download the file again")
    if config["target_modules"] is None:
        raise BadInput(f"{where} names no target_modules; write there which modules the adapter is for")
    return config


def base_of(folder: Path) -> str:
    """What the adapter belongs to: a hub id, or a path, which if relative is looked for beside the adapter's own files."""
    config, where = read(folder), Path(folder) / CONFIG
    base = config["base_model_name_or_path"]
    if not isinstance(base, str) or not base:
        raise BadInput(f"{where}: base_model_name_or_path is missing; write there the folder or hub id of the model it was trained on")
    found = located(folder, base)
    if found == base and config["revision"] not in (None, "main") and not Path(base).is_dir():
        raise BadInput(f"{where}: revision {config['revision']!r} of {base} is not fetched; download it and write its folder there")
    return found


def targets(config: Mapping[str, Any], modules: Iterable[str]) -> list[Target]:
    """Which of the `modules` (names in transformers) are adapted and how, by the rules of peft."""
    try:
        wanted = [name for name in modules if _targeted(config, name)]
        return [Target(name, _pattern(config["rank_pattern"], name, config["r"]), _alpha(config, name)) for name in wanted]
    except re.error as error:
        raise BadInput(f"{CONFIG}: {error.pattern!r} is not a regular expression ({error}); correct it") from error


def _alpha(config: Mapping[str, Any], name: str) -> float:
    return float(_pattern(config["alpha_pattern"], name, config["lora_alpha"]))


def _targeted(config: Mapping[str, Any], name: str) -> bool:
    """A text is a regular expression of the whole name, a list holds names and endings; layers restrict endings alone."""
    wanted, left_out = config["target_modules"], config["exclude_modules"] or []
    if re.fullmatch(left_out, name) if isinstance(left_out, str) else _ends(name, left_out):
        return False
    if any(re.match(rf"(^|.*\.){one}($|\..*)", name) for one in config["modules_to_save"] or ()):
        return False
    if isinstance(wanted, str):
        return wanted.lower() == "all-linear" or re.fullmatch(wanted, name) is not None
    if name in wanted or not _ends(name, wanted):
        return name in wanted
    layers, lists = config["layers_to_transform"], config["layers_pattern"] or []
    if layers is None or layers == []:
        return True
    lists = [lists] if isinstance(lists, str) else lists
    found = [re.match(rf"(?:^|.*?\.){one}\.(\d+)\.", name) for one in lists] if lists else [re.match(r".*?\.[^.]*\.(\d+)\.", name)]
    layer = next((int(match[1]) for match in found if match), None)
    return layer in ([layers] if isinstance(layers, int) else layers)


def _ends(name: str, endings: Iterable[str]) -> bool:
    return any(name == one or name.endswith(f".{one}") for one in endings)


def _pattern(table: Mapping[str, Any], name: str, usual: Any) -> Any:
    """The entry of the first key that the name ends with, read as a regular expression."""
    return next((value for key, value in table.items() if re.match(rf"(.*\.)?({key})$", name)), usual)


# ---- in -----------------------------------------------------------------------------------------------------------------


def apply(net: Transformer, folder: Path) -> list[str]:
    """Put the adapter in `folder` into `net`, its base: returns the native names of what it changes, in the order of the forward pass.

    Adapters and full copies require a gradient afterwards, all else is frozen. BadInput names what is missing, odd or does not fit.
    """
    config, weights = read(folder), _weights(Path(folder))
    known = parts(net)
    linears = [theirs for held in known.values() for _, _, theirs in held]
    copied = _copied(net, config)
    _all_known(config, linears, Path(folder))
    found = {target.theirs: target for target in targets(config, linears)}
    if not found and not copied:
        raise BadInput(f"{folder}: target_modules {config['target_modules']!r} names no linear of this {net.cfg.architecture} model")
    net.requires_grad_(False)
    changed = set()
    for name, held in known.items():
        if any(theirs in found for _, _, theirs in held):
            base = net.get_submodule(name)
            order = tensors(net.cfg).get(f"{name}.weight")
            net.set_submodule(name, _wrapped(base, [(*one, found.get(one[2])) for one in held], config, weights, folder, order))
            changed.add(name)
    for name, theirs in copied.items():
        _copy(net.get_submodule(name), theirs, weights, folder)
        changed.add(name)
    _drop_tied_head(net, copied, config, weights, folder)
    if weights:
        raise BadInput(f"{Path(folder) / WEIGHTS} holds {len(weights)} tensors that its {CONFIG} does not explain, such as {min(weights)}")
    return [site.name for site, _ in sites(net) if site.name in changed]


def _weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of the adapter, without the prefix."""
    if not (folder / WEIGHTS).is_file():
        pickled = next((file.name for file in folder.glob("adapter_model.*")), None)
        why = f"only {pickled}, which would have to be unpickled: save it again with peft" if pickled else "none: download it again"
        raise BadInput(f"{folder} should hold {WEIGHTS} and holds {why}")
    try:
        stored = load_file(str(folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{folder / WEIGHTS} cannot be read ({error}); download it again") from error
    return {name.removeprefix(PREFIX): t for name, t in stored.items()}


def _all_known(config: Mapping[str, Any], linears: list[str], where: Path) -> None:
    """BadInput for a name in the list of targets that no linear of the blocks has."""
    wanted = config["target_modules"]
    for one in () if isinstance(wanted, str) else wanted:
        if not any(_ends(name, [one]) for name in linears):
            have = ", ".join(sorted({name.rpartition(".")[2] for name in linears}))
            raise BadInput(f"{where / CONFIG}: the target module {one!r} cannot be adapted here; this model's linears are {have}")


def _wrapped(
    base: nn.Module, held: list[tuple[str, int, str, Target | None]], config: dict, weights: dict, where: Path, order: Tensors | None
) -> LoraLinear:  # fmt: skip
    """The linear with the adapters of its parts, whose tensors are taken out of `weights`; `order` is that of its rows in the file."""
    if not isinstance(base, nn.Linear):
        raise BadInput(f"{held[0][2]} of the base has an adapter already; merge it first")
    rooted = bool(config["use_rslora"])
    ranked = [Part(name, rows, one.rank, one.alpha, rooted) if one else Part(name, rows) for name, rows, _, one in held]
    unit = LoraLinear(base, ranked, float(config["lora_dropout"]))
    for (_, _, theirs, one), part in zip(held, ranked, strict=True):
        for letter, table in (("A", unit.a), ("B", unit.b)) if one else ():
            _fill(table[part.name], f"{theirs}.lora_{letter}.weight", weights, where)
        if one and order is not None and order.heads:  # what is added to rows lies as they do
            unit.b[part.name].data = turned(unit.b[part.name].data, order, (order.heads, 3)).contiguous()
    return unit


@torch.no_grad()
def _fill(p: nn.Parameter, name: str, weights: dict[str, Tensor], where: Path) -> None:
    """One stored tensor into its parameter; BadInput if it is missing or has another shape."""
    file = Path(where) / WEIGHTS
    if name not in weights:
        raise BadInput(f"{file} holds no tensor {PREFIX}{name}, which its {CONFIG} asks for; download both again")
    stored = weights.pop(name)
    if stored.shape != p.shape or not stored.is_floating_point():
        what = f"{str(stored.dtype).removeprefix('torch.')} {tuple(stored.shape)}"
        raise BadInput(f"{file}: {PREFIX}{name} is {what} and should be {tuple(p.shape)}; the adapter belongs to another base or rank")
    p.copy_(stored)


def _storable(net: Transformer) -> dict[str, str]:
    """Native name -> name in transformers of every module that may be stored whole; a tied head is there under its own name."""
    table = {ours.rpartition(".")[0]: held.names[0].rpartition(".")[0] for ours, held in tensors(net.cfg).items()}
    return {site.name: table.get(site.name, "lm_head") for site, _ in sites(net) if site.kind in COPIED}


def _copied(net: Transformer, config: Mapping[str, Any]) -> dict[str, str]:
    """Native name -> name in transformers of what the adapter holds whole; a tied head only with its embedding."""
    known = _storable(net)
    for one in config["modules_to_save"] or ():
        if not any(theirs.endswith(one) for theirs in known.values()):
            raise BadInput(f"{CONFIG}: modules_to_save {one!r} is not supported; embeddings, head and norms are")
    found = {ours: theirs for ours, theirs in known.items() if any(theirs.endswith(one) for one in config["modules_to_save"] or ())}
    if net.cfg.tied and ("head" in found or "embed" in found):
        if "embed" not in found or not ("head" in found or config["ensure_weight_tying"]):
            alone = "embedding" if "embed" in found else "head"
            raise BadInput(f"{CONFIG}: modules_to_save changes the {alone} alone, and this model's head is its embedding; untie the base")
        found.pop("head", None)
    return found


def _copy(unit: nn.Module, theirs: str, weights: dict[str, Tensor], where: Path) -> None:
    for kind, p in unit.named_parameters(recurse=False):
        _fill(p.requires_grad_(True), f"{theirs}.{kind}", weights, where)


def _drop_tied_head(net: Transformer, copied: Mapping[str, str], config: Mapping[str, Any], weights: dict, where: Path) -> None:
    """A tied head is stored beside its embedding; BadInput if they differ, since peft would then compute with both."""
    stored = weights.pop("lm_head.weight", None) if net.cfg.tied and "embed" in copied else None
    if stored is not None and not stored.to(net.embed.weight.dtype).equal(net.embed.weight):
        raise BadInput(f"{Path(where) / WEIGHTS} holds a head of its own, and this model's head is its embedding; untie the base")


# ---- out ----------------------------------------------------------------------------------------------------------------


def save(net: Transformer, folder: Path, base: str) -> None:
    """Writes the adapters of `net`, and whole every other module that requires a gradient, for peft; `base` is kept as it is given.

    Raises BadInput where there is no adapter, or where something is trained that the format cannot hold.
    """
    weights: dict[str, Tensor] = {}
    units = {name: net.get_submodule(name) for name in parts(net) if isinstance(net.get_submodule(name), LoraLinear)}
    if not units:
        raise BadInput("the model has no adapter, so there is none to write; save the model itself")
    found: list[tuple[str, Part]] = []
    for name, unit in units.items():
        for (_, _, theirs), part in zip(parts(net)[name], unit.parts, strict=True):
            if part.rank:
                found.append((theirs, part))
                order, b = tensors(net.cfg).get(f"{name}.weight"), unit.b[part.name]
                b = turned(b, order, (3, order.heads)) if order is not None and order.heads else b
                weights |= {f"{theirs}.lora_A.weight": unit.a[part.name], f"{theirs}.lora_B.weight": b}
    copied = _trained(net, units)
    for name, theirs in copied.items():
        weights |= {f"{theirs}.{kind}": p for kind, p in net.get_submodule(name).named_parameters(recurse=False)}
    stored = {PREFIX + name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in weights.items()}
    config = _written(net, found, list(units.values()), list(copied.values()), base)
    save_file(stored, str(Path(folder) / WEIGHTS), metadata={"format": "pt"})
    (Path(folder) / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _trained(net: Transformer, units: Mapping[str, nn.Module]) -> dict[str, str]:
    """Modules beside the adapters that require a gradient. A tied head goes with its embedding: peft would untie it otherwise."""
    known, found = _storable(net), {}
    for name, p in net.named_parameters():
        module = name.rpartition(".")[0]
        if p.requires_grad and not any(name.startswith(f"{unit}.") for unit in units):
            if module not in known:
                raise BadInput(f"{name} is trained beside the adapter, which peft's format cannot hold; freeze it or merge the adapter")
            found[module] = known[module]
    return {**found, "head": known["head"]} if net.cfg.tied and "embed" in found else found


def _written(net: Transformer, found: list[tuple[str, Part]], units: list[LoraLinear], copied: list[str], base: str) -> dict[str, Any]:
    """The configuration as peft writes it; its short form where that says the same as every name written out."""
    every = [theirs for held in parts(net).values() for _, _, theirs in held]
    if len({part.rooted for _, part in found}) > 1 or len({unit.dropout for unit in units}) > 1:
        raise BadInput("the adapters differ in rslora or dropout, of which peft's format holds one; train them alike")
    names, ranks = [theirs for theirs, _ in found], Counter(part.rank for _, part in found)
    alphas = Counter(part.alpha for _, part in found)
    config = {
        "base_model_name_or_path": base, "revision": None, "peft_type": "LORA", "task_type": "CAUSAL_LM", "inference_mode": True,
        "r": ranks.most_common(1)[0][0], "lora_alpha": _short(alphas.most_common(1)[0][0]), "lora_dropout": units[0].dropout,
        "bias": "none", "fan_in_fan_out": any(held.transposed for held in tensors(net.cfg).values()), "init_lora_weights": True,
        "use_rslora": found[0][1].rooted, "use_dora": False, "modules_to_save": copied or None, "exclude_modules": None,
        "layers_to_transform": None, "layers_pattern": None,
    }  # fmt: skip
    endings = sorted({".".join(name.split(".")[-2:]) if name.endswith("c_proj") else name.rpartition(".")[2] for name in names})
    exact = all(any(_ends(name, [end]) for end in endings) == (name in names) for name in every)
    config["target_modules"] = endings if exact else names
    config["rank_pattern"] = {theirs: part.rank for theirs, part in found if part.rank != config["r"]}
    config["alpha_pattern"] = {theirs: _short(part.alpha) for theirs, part in found if part.alpha != config["lora_alpha"]}
    told = [Target(theirs, part.rank, part.alpha) for theirs, part in found]
    if {one.theirs: one for one in targets(config, every)} != {one.theirs: one for one in told}:
        raise BadInput("peft's format has no words for these adapters: their names overlap")
    return config


def _short(number: float) -> int | float:
    return int(number) if number == int(number) else number
