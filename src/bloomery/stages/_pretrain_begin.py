"""How a pretraining run begins: random weights, weights made from other models, or those of an earlier run with its trainer state."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.seams import Clock, Rng, Source
from bloomery.stages import _teacher

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.nn.config import Config

TENSORS, STATE = "trainer.safetensors", "trainer.json"
PARTS = "parts"  # under this name the parts of a loss are trained with the model, and left out at the end


@dataclass
class Begun:
    """What is trained."""

    net: Any
    fitted: list  # sites that modules of the recipe have taken
    roles: dict[str, Any]  # parts of the loss, and the models that it only reads
    earlier: Any  # the run that this one goes on from, or None
    watch: Any  # around a forward and backward pass
    rates: dict[str, float] = field(default_factory=dict)  # by what the rate of a parameter is multiplied; 1 where it is not named

    @property
    def cfg(self) -> Config:
        return self.net.cfg

    def to(self, device: str) -> None:
        """All models onto a device; the parts of the loss lie in the trained one."""
        for net in (self.net, *self.roles.values()):
            net.to(device)

    def before_step(self, rng: Rng) -> Callable[[Clock], None]:
        """What modules change before the step of a clock."""
        if not self.fitted:
            return lambda clock: None
        from bloomery.nn.modules import before_step

        return lambda clock: before_step(self.fitted, clock, rng.child(clock.step))


def sound_start(stage: Any) -> None:
    """ValueError, one clause, for models or texts that the init does not read: the run would begin otherwise than its recipe says."""
    if stage.start and catalog.attribute("init", stage.init, "draws"):
        raise ValueError("start: this init draws all weights and reads no model; say `init: stack`, which takes them over, or leave it out")
    if stage.texts and len(stage.texts) != len(stage.start):
        raise ValueError(f"texts: name one for each model of start, or none; got {len(stage.texts)} for {len(stage.start)}")


def begin(stage: Any, cfg: Config, job: Job) -> Begun:
    """The model with its adapter, modules and the parts of the loss; BadInput for roles that the loss lacks or does not know."""
    from torch import nn

    from bloomery.nn.saving import load

    if stage.modules:
        from bloomery.nn.modules import buffers, fit
    net = beginning(stage, cfg, job)
    if stage.adapter is not None:
        from bloomery.rewrite.adapters import attach

        if not stage.start:
            raise BadInput("adapter: it learns beside weights that were trained; name their model in start, with init: stack")
        job.fact("adapted", attach(net, stage.adapter, job.rng.child("adapter"), also=stage.train_also))
    fitted = fit(net, stage.modules, job.rng.child("modules")) if stage.modules else []
    if fitted and stage.after is not None:
        net.load_state_dict(buffers(load(stage.after.folder)), strict=False)
    rates = stage.init.rates(net) if hasattr(stage.init, "rates") else {}
    if stage.after is not None:
        same_model(net.cfg, stage.after.folder)
    parts = stage.loss.parts(net, job.rng.child("parts")) if hasattr(stage.loss, "parts") else {}
    if parts:
        net.add_module(PARTS, nn.ModuleDict(parts))
    _teacher.bound(stage, parts)
    read = _teacher.further(stage, net.cfg, stage.context, stage.data.path("tokenizer.json"), lambda: _teacher.texts(stage.data), job)
    earlier = earlier_run(stage.after.folder) if stage.after is not None else None
    if stage.saved is None:
        return Begun(net, fitted, {**parts, **read}, earlier, nullcontext, rates)
    from bloomery.train.saved import saving

    kept = saving(net, stage.saved, read.values())
    return Begun(net, fitted, {**parts, **read}, earlier, lambda: kept, rates)


def beginning(stage: Any, cfg: Config, job: Job) -> Any:
    """The weights that the init gives, before anything is put beside them or in their place."""
    from bloomery.nn.model import Transformer

    net = Transformer(stage.init.shape(cfg) if hasattr(stage.init, "shape") else cfg)
    stage.init.apply(source(net, stage.data), sources(stage), None, job.rng.child("init"))
    return net


def same_model(cfg: Config, folder: Path) -> None:
    """BadInput naming what this model computes otherwise than the earlier one whose weights it takes over."""
    from bloomery.nn.config import Config

    old = Config.read(folder / "model.json")
    names = (one.name for one in fields(cfg) if one.name not in ("context", "architecture"))
    if odd := next((name for name in names if getattr(old, name) != getattr(cfg, name)), None):
        raise BadInput(f"after: {odd} is {getattr(old, odd)!r} in that model and {getattr(cfg, odd)!r} here; state the same")


def rehearsed(stage: Any, cfg: Config, precision: str) -> tuple[Any, dict[str, Any], Any]:
    """The model with its modules and parts, further models of the loss, and the optimizer, for a rehearsal: as `begin` makes them, without
    the weights of the init, and with models that are not made yet taken to be like the trained one."""
    from torch import nn

    from bloomery.nn.model import Transformer
    from bloomery.nn.modules import fit
    from bloomery.train import precision as formats
    from bloomery.train.optimizer import Optimizer

    rng = Rng((0, "rehearsal"))
    net = Transformer(stage.init.shape(cfg) if hasattr(stage.init, "shape") else cfg)
    if stage.modules:
        fit(net, stage.modules, rng)
    rates = stage.init.rates(net) if hasattr(stage.init, "rates") else {}
    if stage.adapter is not None:
        from bloomery.rewrite.adapters import attach

        attach(net, stage.adapter, rng, also=stage.train_also)
    parts = stage.loss.parts(net, rng) if hasattr(stage.loss, "parts") else {}
    if parts:
        net.add_module(PARTS, nn.ModuleDict(parts))
    mover = Optimizer(net, stage.optimizer, rng, stage.decay, formats.dtype(precision), stage.rest, rates)
    if stage.keep_zeros:
        mover.keep_zeros()
    return net, {**parts, **_teacher.outlines(stage, cfg)}, mover


def source(net: Any, data: Any) -> Source:
    """A model with the tokenizer and the text of token shards."""
    from bloomery.data.decoded import Decoded
    from bloomery.data.shards import Shards
    from bloomery.data.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(data.folder)
    return Source(net, tokenizer, Decoded(Shards(data.path("train")), tokenizer))


def sources(stage: Any) -> list[Source]:
    """The models that the init method reads, each with its tokenizer, and with its text where `texts` names it."""
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.nn.saving import load

    found = [Source(load(one.folder), Tokenizer.load(one.folder)) for one in stage.start]
    return [replace(one, docs=source(one.net, text).docs) for one, text in zip(found, stage.texts, strict=True)] if stage.texts else found


def earlier_run(folder: Path) -> Any:
    """The trainer state that a finished run kept; BadInput where it kept none."""
    from safetensors.torch import load_file

    from bloomery.train.loop import Earlier

    if not (folder / TENSORS).is_file():
        raise BadInput(f"after: {folder} holds no trainer state; make that model with `keep_state: true`")
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    return Earlier(load_file(str(folder / TENSORS)), state["layout"], state["steps"], state["batching"], state["by"])


def keep(folder: Path, run: Any, steps: int) -> None:
    """Write the trainer state of a finished run, from which another can go on."""
    from safetensors.torch import save_file

    from bloomery.train.resume import held

    save_file(held(run), str(folder / TENSORS))
    state = {"layout": run.optimizer.layout(), "steps": run.steps_before + steps, "batching": run.feed.state}
    state["by"] = run.feed.order()
    (folder / STATE).write_text(json.dumps(state) + "\n", encoding="utf-8")
