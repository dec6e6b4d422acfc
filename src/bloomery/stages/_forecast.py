"""What a training stage will need: bytes by term and seconds by part, from a rehearsal on tensors without numbers (docs/plan.md)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput
from bloomery.core.machine import Machine, memory_free
from bloomery.num.step_cost import FULL
from bloomery.stages import _share, _trial
from bloomery.stages._load import Load
from bloomery.stages._smallest import USUAL, base
from bloomery.train.kernels import kept

if TYPE_CHECKING:
    from bloomery.nn.config import Config

WRITER = 2  # copies of a checkpoint that the safetensors writer makes: the bytes of each tensor, and those of the file
ROOM = 3  # times what is needed by the usual figures: memory enough not to measure them
FORWARD = 1 / 3  # of a training pass, what scoring a row without gradients takes


@dataclass(frozen=True)
class Needs:
    """Bytes by term, of which `memory` is the sum, and seconds by part, of which `seconds` is; of each process
    where several share a step."""

    memory: dict[str, float]
    seconds: dict[str, float]
    step: float  # seconds of a step
    flops: float  # of all products of a step
    checkpoint: int  # bytes of one, all parts together
    rows: int  # of a step
    micro: int  # of a micro-batch
    without: str  # what could not be rehearsed, or counts otherwise
    shelved: int = 0  # bytes of the optimizer on a disk
    shared: dict[str, Any] = field(default_factory=dict)  # of a mesh: its processes, and what each of them sends in a step

    def facts(self) -> dict[str, Any]:
        """For the plan and the card."""
        memory = {name: round(size) for name, size in self.memory.items() if size}
        seconds = {name: round(each, 3) for name, each in self.seconds.items()}
        return {
            "memory_terms": memory,
            "seconds_terms": seconds,
            "step_seconds": self.step,
            "step_flops": self.flops,
            "rows": self.rows,
            "micro": self.micro,
            **self.shared,
            **({"forecast_without": self.without} if self.without else {}),
        }


def needs(load: Load, machine: Machine) -> Needs:
    """Rehearse one step of the run on this machine's speeds: of a mesh, a rank's share of it."""
    from bloomery.train import timing

    rows, load = load.rows, _share.own(load)
    step, without = rehearsed(load)
    share = _share.Share(load, machine)
    held, trained = share.held(step), min(1.0, step.gradients / (FULL * load.cfg.parameters()))
    speeds, free = machine.speeds(), memory_free()
    ample = ROOM * sum(terms(load, held, USUAL[load.compiled], saves=True).values()) < free
    alone = base(load.stage, load.compiled, speeds, usual=ample and machine.effort == "usual")
    tried = sum(terms(replace(load, shelved=False, resident=0), step, alone, saves=True).values())  # a trial has all of it in memory
    seen, untried = trial(load, step, speeds, machine.effort == "tried", tried < free)
    made = kernels(step, load.micros, load.steps, alone)
    if seen:
        whole, once = {"the trial": seen.micro}, seen.rest
    else:
        rates = {"matmul_flops": machine.matmul_flops, "bandwidth": machine.bandwidth or 1e10}
        whole, rest = (timing.seconds(calls, speeds, **rates) for calls in (step.micro, step.rest))
        once = sum(rest.values()) + load.micros * made[1]
    speeds.write()
    micro, once, more = share.taken(whole, once, trained)
    each = load.micros * sum(micro.values()) + once + sum(more.values())
    seconds = {f"{name} of passes": load.micros * load.steps * value for name, value in micro.items()}
    seconds |= {"updates": load.steps * once} | {name: load.steps * value for name, value in more.items()}
    seconds["scoring"] = FORWARD * sum(whole.values()) * load.scored / (load.micro * load.context) / share.turns
    seconds["beginning and end"] = alone["seconds"]
    saves = bool(load.save_steps) or sum(seconds.values()) > load.save_seconds
    flops = rows / load.micro * timing.products(step.micro) + timing.products(step.rest)
    memory = {**terms(load, held, alone, saves), "kernels": made[0]}
    if seen and not load.compiled:
        memory["beyond the rehearsal"] = max(0.0, seen.grown - rehearsed_growth(step, alone, seen.passes))
    other = f"the {load.device} device: bytes and seconds are those of the processor" if load.device != "cpu" else ""
    without = "; ".join(filter(None, (without, untried, other, share.uncounted())))
    facts = share.facts(trained)
    return Needs(memory, seconds, each, flops, step.checkpoint, rows, load.micro, without, shelved(load, step), facts)


def trial(load: Load, step: Any, speeds: Any, wished: bool, fits: bool) -> tuple[_trial.Tried | None, str]:
    """What is known of a trial, which is made where it is wished for and memory holds it; and why there is none of those wished for."""
    able = fits and load.device == "cpu"
    try:
        seen = _trial.known(load, step, speeds, may=wished and able)
    except _trial.Untried as wrong:
        return None, f"the trial, which failed: {wrong}"
    why = "memory does not hold it" if load.device == "cpu" else "there are none on that device"
    return seen, f"a trial: {why}" if wished and not able and seen is None else ""


def rehearsed_growth(step: Any, alone: dict[str, float], passes: float) -> float:
    """Bytes that a trial of so many micro-batches holds at most by the rehearsal: its first steps, without text and checkpoint."""
    return (
        step.standing + step.audit + max(step.passes, step.update) + step.unused + min(step.uneven * passes, kept()) * alone["kernel bytes"]
    )


def rehearsed(load: Load) -> tuple[Any, str]:
    """The step, and what was left out of it: a loss or backward pass, such as another package's, that asks tensors for numbers which a
    rehearsal does not have is counted as the plain one."""
    from bloomery.methods.backward.autograd import Autograd
    from bloomery.methods.loss.cross_entropy import CrossEntropy
    from bloomery.train.rehearsal import rehearse

    shape = (load.micros, load.micro, load.context)
    try:
        return rehearse(load.make, load.loss, load.backward, shape, load.saved, load.compiled), ""
    except BadInput:
        raise
    except Exception as wrong:
        without = f"the loss and the backward pass, counted as cross_entropy and autograd ({type(wrong).__name__})"
        return rehearse(load.make, CrossEntropy(), Autograd(), shape, None, load.compiled), without


def kernels(step: Any, micros: int, steps: int, alone: dict[str, float]) -> tuple[float, float]:
    """(bytes, seconds of a micro-batch) of kernels that are compiled for products of new shapes, in bfloat16."""
    if not step.uneven or not step.weights:
        return 0.0, 0.0
    return min(step.uneven * micros * steps, kept()) * alone["kernel bytes"], step.uneven * alone["kernel seconds"]


def shape_of(model: Any, facts: dict[str, Any]) -> Config:
    """The shape of a model: from its folder, from the step that is to make it, or one of a Llama of as many parameters."""
    from bloomery.nn.config import Config
    from bloomery.nn.hf import config_of

    if model is not None and (model.folder / "model.json").is_file():
        return Config.read(model.folder / "model.json")
    if model is not None and (model.folder / "config.json").is_file():
        return config_of(model.folder)
    if "config" in facts:
        return Config(**{name: tuple(value) if isinstance(value, list) else value for name, value in facts["config"].items()})
    parameters = float(facts.get("parameters") or (facts.get("bytes") or 2e7) / 4)
    width = max(64, 64 * round(parameters ** (1 / 3) / 64))
    vocab = int(facts.get("vocab") or 4096)
    layers = max(1, round((parameters - vocab * width) / (12 * width * width)))
    return Config(vocab, width, layers, width // 64, width // 64, 8 * width // 3, 1024)


def known_shape(model: Any, facts: dict[str, Any]) -> Config | None:
    """The shape of a model that is there, or that the step which is to make it tells; None where nothing does. BadInput for a folder that
    holds none that is read part by part."""
    if model is not None:
        from bloomery.nn.parts import Source

        return Source(model.folder).cfg
    return shape_of(None, facts) if "config" in facts else None


def shelved(load: Load, step: Any) -> int:
    """Bytes that lie on a disk between two pieces of an update: the optimizer's, where in float32 masters are the working weights, and
    stay; with a window of blocks the weights too."""
    if load.resident:
        return step.states + step.masters + step.weights + step.frozen_blocks
    return (step.states + (step.masters if step.weights else 0)) if load.shelved else 0


def away(load: Load, step: Any) -> tuple[float, float]:
    """Bytes of frozen and of trained weights that are on a disk while other blocks are computed, of models that are read so."""
    share = max(0.0, 1 - load.resident / step.layers) if load.resident else 0.0
    return share * step.frozen_blocks, share * step.trained_blocks


def terms(load: Load, step: Any, alone: dict[str, float], saves: bool) -> dict[str, float]:
    """What is held at the moment that most is: while blocks are compiled, in a step, while a checkpoint is copied, or when the model is
    read back.

    The blocks of a step are reused by what comes after it, and what the checkpoint's writer takes lies apart from them.
    """
    frozen, trained = away(load, step)
    beginning = max(0, step.making - step.standing + frozen + trained)  # which is before anything goes to a disk
    moments = {
        "step": step.passes + (step.checkpoint if saves else step.audit),
        "first step": step.passes + step.audit,
        "first checkpoint": step.audit + step.checkpoint,
        "update": step.audit + step.update,
        "beginning": beginning,
        "read back": load.reread,
        "compilers": alone["compiling"],
    }
    most = max(moments, key=moments.get)
    inside = {
        "activations": step.kept if "step" in most else 0,
        "passing": step.passes - step.kept if "step" in most else 0,
        "first weights": step.audit if most in ("first step", "first checkpoint", "update") or (most == "step" and not saves) else 0,
        "checkpoint copy": step.checkpoint if most == "first checkpoint" or (most == "step" and saves) else 0,
        "update": step.update if most == "update" else 0,
        "beginning": beginning if most == "beginning" else 0,
        "read back": load.reread if most == "read back" else 0,
        "compilers": alone["compiling"] if most == "compilers" else 0,
    }
    return {
        "process": alone["bytes"],
        "text": load.text,
        "frozen weights": step.frozen - frozen,
        "weights": step.weights - trained if step.weights else 0,
        "masters": step.masters - trained if not step.weights else 0 if load.shelved else step.masters,
        "gradients": step.gradients,
        "optimizer": 0 if load.shelved else step.states,
        **inside,
        "between blocks": step.unused,
        "checkpoint writer": WRITER * step.checkpoint,
    }
