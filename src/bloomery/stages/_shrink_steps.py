"""What `shrink` tries: a combination of layers, zeros and bits as the steps of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput, near

if TYPE_CHECKING:
    from bloomery.core.store import Artifact, Store
    from bloomery.nn.config import Config
    from bloomery.stages.shrink import Shrink

TRIED = ("layers", "zeros", "pattern", "bits", "group")  # what a trial may set
RECOVER = {"tokens": 300_000, "rate": 1e-3}  # of the training after layers were left out


def sound(trial: Mapping[str, Any], layers: int = 0) -> None:
    """BadInput for a trial that says what cannot be tried; `layers` of the source, where they are known."""
    for name, value in trial.items():
        if name not in TRIED:
            raise BadInput(f"search: shrink tries no '{name}'; {near(name, list(TRIED))}")
        if name == "pattern":
            if not isinstance(value, str):
                raise BadInput(f'search: pattern is text, in YAML in quotes, such as "2:4", and {value!r} is none')
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or (name != "zeros" and value != int(value)):
            raise BadInput(f"search: {name} is a number, and {value!r} is none")
    if not 0 <= trial.get("zeros", 0) < 1:
        raise BadInput(f"search: zeros is a share from 0 to below 1, got {trial['zeros']!r}")
    if trial.get("bits", 0) not in (0, *range(2, 9)):
        raise BadInput(f"search: bits are 2 to 8, or 0 for none taken away, got {trial['bits']!r}")
    if layers and not 1 <= trial.get("layers", layers) <= layers:
        raise BadInput(f"search: the model has {layers} layers, and {trial['layers']!r} are asked for")


def steps(stage: Shrink, trial: Mapping[str, Any], cfg: Config, model: str, data: str) -> dict[str, dict[str, Any]]:
    """The steps that make a trial's model, in their order; none where it is the source as it stands."""
    sound(trial, cfg.layers)
    at, made = model, {}
    if trial.get("layers", cfg.layers) < cfg.layers:
        made["shorter"], at = shorter(stage, int(trial["layers"]), cfg, model, data), "$shorter"
    common = {"stage": "compress", "data": data, "samples": stage.samples, "agreement": 0.0}
    if trial.get("zeros") or trial.get("pattern"):
        own = {name: trial[name] for name in ("zeros", "pattern") if trial.get(name)}
        made["pruned"], at = {**common, "model": at, "method": changed(stage.prune, "prune", own)}, "$pruned"
    if trial.get("bits"):
        own = {name: int(trial[name]) for name in ("bits", "group") if trial.get(name)}
        own |= {"keep_zeros": True} if "pruned" in made else {}
        made["small"] = {**common, "model": at, "method": changed(stage.quantize, "quantize", own)}
    return made


def shorter(stage: Shrink, layers: int, cfg: Config, model: str, data: str) -> dict[str, Any]:
    """The training of a model with fewer layers; BadInput for a shape that no recipe can say."""
    from bloomery.stages.pretrain import Pretrain

    knobs = shape(cfg, layers)
    try:
        same = Pretrain(None, **knobs).config(cfg.vocab)
    except ValueError as wrong:
        raise BadInput(f"search: layers of this model cannot be left out: {wrong}") from None
    if cfg.experts or asdict(same) != {**asdict(cfg), "layers": layers}:
        raise BadInput("search: layers are left out of plain models, and this one has experts or modules; leave layers out of the space")
    teacher = {"roles": {"teacher": model}} if "teacher" in getattr(stage.loss, "roles", ()) else {}
    methods = {"init": catalog.spec(stage.shorten), "loss": catalog.spec(stage.loss)}
    return {"stage": "pretrain", "data": data, **knobs, "start": [model], **methods, **teacher, **RECOVER, **(stage.recover or {})}


def shape(cfg: Config, layers: int) -> dict[str, Any]:
    """The knobs of `pretrain` that say this model's shape with so many layers."""
    from bloomery.nn.config import Config
    from bloomery.stages._shape import FURTHER

    knobs = {name: getattr(cfg, name) for name in ("width", "heads", "kv_heads", "ffn", "context", "causal")}
    usual, own = asdict(Config(cfg.vocab, layers=layers, **knobs)), asdict(cfg)
    more = {name: own[name] for name in FURTHER if own[name] != usual[name]}
    return {**knobs, "layers": layers, "batch": max(1024, cfg.context), **({"model": more} if more else {})}


def changed(method: Any, knob: str, own: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A method as a recipe has it, with other knobs; BadInput where it has none of that name."""
    ((name, knobs),) = catalog.spec(method).items()
    if odd := next((one for one in own if one not in knobs), None):
        what = "keeps no zeros, so that pruning before it would be lost" if odd == "keep_zeros" else f"has no knob {odd}"
        raise BadInput(f"{knob}: {name} {what}; choose another method, or leave this out of the space")
    made = {name: {**knobs, **own}}
    catalog.build_method("compress", made, "search")
    return made


def reference(one: Artifact, store: Store) -> str:
    """An input as a recipe of its own names it."""
    return f"@{one.name}" if one.folder.parent == store.artifacts else str(one.folder)


def called(trial: Mapping[str, Any], cfg: Config) -> str:
    """What a trial's model is called in tables and charts."""
    bits, group = trial.get("bits"), trial.get("group")
    said = [f"{int(trial['layers'])} layers"] if trial.get("layers", cfg.layers) < cfg.layers else []
    said += [str(trial["pattern"])] if trial.get("pattern") else [f"{trial['zeros']:.0%} zeros"] if trial.get("zeros") else []
    said += [f"{int(bits)} bits" + (f", groups of {int(group)}" if group else "")] if bits else []
    return ", ".join(said) or "as it is"
