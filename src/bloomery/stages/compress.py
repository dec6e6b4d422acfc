"""Compress: a model with fewer bits for each weight, and how far it is from the one it came from."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.machine import memory_free, threads
from bloomery.stages import _compress_budget, _compress_measure
from bloomery.stages._compress_budget import in_bytes

if TYPE_CHECKING:
    from numpy import ndarray

    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer
    from bloomery.rewrite.compress import Outcome

COMPARED = 8192  # tokens on which the copy is compared with its source, about
LONGEST = 2048  # tokens of a sequence at most, where the knob leaves it open
# Least share of tokens on which both find the same token likeliest, by bits of the codes or blocks of a stack; of 1 nothing is asked.
AGREES = {8: 0.95, 7: 0.95, 6: 0.92, 5: 0.86, 4: 0.75, 3: 0.4, 2: 0.05}
PRUNED = 0.05  # the same of a model with zeros, however many


@dataclass(frozen=True)
class Compress:
    """Store a model's linears in few bits, calibrated on text, and measure what that costs."""

    model: Annotated[Artifact, "model"]  # what is made smaller
    data: Annotated[Artifact, "*"]  # tokens or chats: calibrated on their training part, compared on their held-out part
    method: Compress = "gptq"  # how the weights are made small: a method of the seam compress
    budget: str = ""  # what the linears may take, as 1.5MB or as "2.5 bits" for each weight; only where the method divides one; "" = all
    samples: int = 128  # sequences to calibrate on
    length: int = 0  # tokens of a sequence at most; 0 = the context, at most 2048
    skip: tuple[str, ...] = ()  # patterns of linears that stay as they are, such as blocks.0.* or *.down
    rest: Literal["float16", "bfloat16", "float32"] = "float16"  # type in which the other matrices are stored, the embedding above all
    precision: Literal["float32", "bfloat16"] = "float32"  # of the calibration passes; bfloat16 is faster where it is in hardware
    agreement: float = -1.0  # least share of equal greedy tokens; -1 = by bits, such as 0.95 at 8 and 0.75 at 4
    makes: ClassVar[str] = "model"
    needs: ClassVar[tuple] = ("torch",)

    def __post_init__(self) -> None:
        if self.samples < 1 or self.length < 0 or self.length == 1:
            raise ValueError(f"samples must be at least 1 and length 0 or at least 2, got {self.samples} and {self.length}")
        if self.agreement != -1 and not 0 <= self.agreement <= 1:
            raise ValueError(f"agreement must be a share, or -1, got {self.agreement}")
        if self.budget:
            in_bytes(self.budget, 1 << 20)

    def mode(self) -> dict:
        """The type of calibration passes; the number of threads may change the last digit of what is solved."""
        return {"precision": self.precision, "threads": threads()}

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """Calibration is a forward pass, as much again for statistics; then both models read the compared text and write a little.

        BadInput for an adapter.
        """
        if self.model is not None and self.model.path("adapter_config.json").is_file():
            raise BadInput(f"{self.model.name} is an adapter; merge it first (a merge step), then compress")
        facts = inputs["model"].facts
        cfg = self.able(facts)
        parameters, context = float(facts.get("parameters") or 5e6), self.length or int(facts.get("context") or 256)
        if self.budget and self.method is not None and not hasattr(self.method, "allocate"):
            raise BadInput(
                f"budget: {type(self.method).__name__} divides none over the linears; leave it out, or choose bitstack or cptquant"
            )
        bits = getattr(self.method, "bits", 8)
        tokens = self.samples * context
        seconds = 3 + 2 * parameters * (1.5 * tokens + 2 * COMPARED) / (0.6 * machine.matmul_flops.get("float32", 1e11))
        if hasattr(self.method, "allocate"):  # a short pass for every block of every linear, and the walk over budgets
            seconds *= 1 + 2 * getattr(self.method, "blocks", 4)
        seconds += self.training(parameters, tokens) / (0.3 * machine.matmul_flops.get("float32", 1e11))
        disk = parameters * (bits + 1) / 8 + 2e6
        passing = 4 if self.precision == "float32" else 2  # bytes of an activation; the model is here once, to be timed
        ends = getattr(self.method, "ends", False)  # the source's linears are here besides, to measure what became of them
        whole = hasattr(self.method, "allocate") or "g" in getattr(self.method, "reads", ()) or ends
        told = {"parameters": parameters, "context": context, "bits": bits, **({"config": asdict(cfg)} if cfg else {})}
        rounding = getattr(self.method, "inner", self.method)
        if hasattr(rounding, "group"):
            told["codes"] = {"group": rounding.group, "bits": bits, "symmetric": getattr(rounding, "symmetric", True), "but": self.skip}
        memory = 6e8 + (17 if ends else 13 if whole else 5) * parameters + passing * min(5.5e8, 8 * tokens * math.sqrt(parameters / 12))
        return Forecast(seconds=seconds, memory=memory, disk=disk, facts=told)

    def able(self, facts: dict[str, Any]) -> Config | None:
        """The model's shape, where that is known before it is made; BadInput for what a model of that shape cannot be asked."""
        if hasattr(self.method, "inner") or hasattr(self.method, "attend"):
            import torch

            from bloomery.rewrite.compress import able

            able(self.method, math.inf, whole=True, precision=getattr(torch, self.precision))
        from bloomery.stages._forecast import known_shape

        cfg = known_shape(self.model, facts)
        if cfg is None:
            return None
        self.cut(cfg)
        if not cfg.causal and ("g" in getattr(self.method, "reads", ()) or hasattr(self.method, "allocate")):
            raise BadInput(f"{type(self.method).__name__} asks for the loss of a causal model, and this one sees a text in both directions")
        if not cfg.modules and (self.skip or hasattr(self.method, "allocate")):
            _compress_budget.able(self.method, self.budget, self.shapes(cfg))
        return cfg

    def training(self, parameters: float, tokens: float) -> float:
        """FLOPs of what a method trains, 0 for one that does not."""
        if not hasattr(self.method, "settle"):
            return 0.0
        return 6 * parameters * tokens * (getattr(self.method, "passes", 1) + getattr(self.method, "end", 0))

    # ---- run

    def run(self, job: Job) -> None:
        """Draw, compress block by block, write, read back, and time both models at writing."""
        import torch

        from bloomery.infer.model import load
        from bloomery.nn.hf import copy_words
        from bloomery.nn.parts import Source
        from bloomery.train.allocator import keep_memory

        keep_memory()
        torch.set_num_threads(threads())
        cfg = Source(self.model.folder).cfg
        texts = self.calibration(cfg, job)
        began = time.perf_counter()
        outcome, sha256 = self.solved(cfg, texts, job)
        job.fact("compress_seconds", time.perf_counter() - began)
        copy_words(self.model.folder, job.out)
        job.fact("weights_sha256", sha256)
        job.fact("layers", [vars(layer) for layer in outcome.layers])
        job.fact("skipped", outcome.skipped)
        if coverage := outcome.coverage():
            job.fact("expert_tokens", coverage)
        job.fact("parameters", cfg.parameters())
        job.fact("context", cfg.context)
        job.fact("calibration_tokens", outcome.tokens)
        job.fact("decode_tokens_per_second", {})
        for name, folder in (("copy", job.out), ("source", self.model.folder)):
            if 6 * cfg.parameters() < memory_free():  # a model of its own size at a time, and room to write
                job.facts["decode_tokens_per_second"][name] = pace(load(folder), texts[0])

    def solved(self, cfg: Config, texts: list[ndarray], job: Job) -> tuple[Outcome, str]:
        """The copy in `job.out`, and the digest of its weights. A model with modules of a recipe is loaded as a whole, and so is one that a
        method trains at the end."""
        import torch

        from bloomery.infer.model import load
        from bloomery.nn.parts import Parts
        from bloomery.nn.saving import digest, save
        from bloomery.rewrite.compress import compress

        rest, precision = getattr(torch, self.rest), getattr(torch, self.precision)
        budget = in_bytes(self.budget, sum(map(math.prod, self.shapes(cfg).values()))) if self.budget else math.inf
        job.fact("budget_bytes", budget if self.budget else None)
        if cfg.modules or getattr(self.method, "ends", False):
            net = load(self.model.folder).net
            self.as_stored(net, cfg)
            outcome = compress(net, self.method, texts, self.skip, rest, job.log, budget, precision)
            save(net, job.out, outcome.skipped, rest)
            return outcome, digest(net)
        parts = Parts(self.model.folder, job.work / "parts", rest)
        outcome = compress(parts, self.method, texts, self.skip, rest, job.log, budget, precision)
        return outcome, parts.close(job.out, outcome.skipped)

    def as_stored(self, net: Transformer, cfg: Config) -> None:
        """Linears of the source that are left, and lie there in few bits, stay what they are."""
        from bloomery.nn import packed
        from bloomery.rewrite.compress import choose

        left = choose(list(linears(cfg)), self.skip)[1]
        for name, one in packed.read(self.model.folder).items():
            if name in left:
                net.set_submodule(name, packed.Quantized(one, net.get_submodule(name).bias))

    def shapes(self, cfg: Config) -> dict[str, tuple[int, int]]:
        """(O, I) of the linears that are made small."""
        from bloomery.rewrite.compress import choose

        found = linears(cfg)
        return {name: found[name] for name in choose(list(found), self.skip)[0]}

    def calibration(self, cfg: Config, job: Job) -> list[ndarray]:
        """Sequences of the training part."""
        from bloomery.data.samples import has, samples

        part = "train" if has(self.data.folder, "train") else "heldout"
        found = samples(self.data.folder, part, self.samples, self.cut(cfg), self.model.folder, job.seed)
        return self.sound(found, cfg)

    def compared(self, cfg: Config, job: Job) -> Any:
        """Held-out sequences, or others where nothing is held out."""
        from bloomery.data.samples import to_compare

        found = to_compare(self.data, self.cut(cfg), self.model.folder, job.seed)
        self.sound(found.ids, cfg)
        return found

    def cut(self, cfg: Config) -> int:
        """Tokens of a sequence at most."""
        context = cfg.context
        if self.length > context:
            raise BadInput(f"length {self.length} is more than the model's context of {context}; give 0 or at most {context}")
        return self.length or min(context, LONGEST)

    def sound(self, sequences: list, cfg: Config) -> list:
        """The same sequences; BadInput where there are none or they were made with another vocabulary."""
        if not sequences:
            raise BadInput(f"{self.data.folder} holds no text of two tokens; give another artifact as data")
        if max(int(max(ids)) for ids in sequences) >= cfg.vocab:
            raise BadInput(f"{self.data.name} holds token ids past the model's vocabulary of {cfg.vocab}; give data of its tokenizer")
        return sequences

    # ---- check

    def check(self, made: Path, job: Job) -> None:
        """The folder holds exactly what was solved, every linear is accounted for, and the copy still speaks like its source."""
        from bloomery.nn import packed
        from bloomery.nn.parts import Source, digest

        facts = job.facts or json.loads((made / "card.json").read_text(encoding="utf-8"))["facts"]
        small, whole, cfg = packed.read(made), digest(made), Source(made).cfg
        job.check("weights read back that differ from the solved ones", int(whole != facts["weights_sha256"]), 0)
        job.check("configuration that differs from the source's", int(cfg != Source(self.model.folder).cfg), 0)
        every = linears(cfg)
        lost = [name for name in every if name not in small and name not in packed.skipped(made)]
        note = ", ".join(lost[:3]) or f"of {len(every)}"
        job.check("share of linears neither compressed nor named as skipped", len(lost) / len(every), 0, note=note)

        own = {layer["name"] for layer in facts["layers"]}
        solved = {name: one for name, one in small.items() if name in own}  # others were small in the source, and stayed
        found, told = _compress_measure.compared(self, made, solved, cfg, facts, job)
        least = self.least(solved)
        note = f"at least {least:g} wanted of {told['label']}, {found.tokens} tokens"
        job.check("share of greedy tokens equal to the source's", found.agreement, least, ok=found.agreement >= least, note=note)
        note = f"nats per token; {found.nats:.4f} against {found.reference_nats:.4f}" if cfg.causal else ""
        job.check("KL divergence from the source that is not finite", int(not math.isfinite(found.kl)), 0, note=note)
        job.check("bytes of the copy for each byte of its source", told["bytes"] / told["source_bytes"], 1)
        stored = sum(one.bytes for one in solved.values())
        job.fact("linear_bytes", stored)
        job.fact("linear_bits_per_weight", 8 * stored / max(1, sum(one.shape[0] * one.shape[1] for one in solved.values())))
        job.fact("heldout_nats", found.nats)
        if facts.get("budget_bytes"):
            job.check("bytes of the linears for each byte of the budget", stored / facts["budget_bytes"], 1)
        _compress_measure.walk(self, made, small, whole, job)
        job.fact("copy", told)

    def least(self, small: dict[str, Any]) -> float:
        """The share of greedy tokens that is asked for: by bits where the knob leaves it open, a block being about a bit."""
        if self.agreement >= 0:
            return self.agreement
        bits = [getattr(one, "blocks", one.bits) for one in small.values() if not hasattr(one, "zeros")]
        return min([AGREES.get(min(int(min(bits, default=8)), 8), 0.0), *(PRUNED for one in small.values() if hasattr(one, "zeros"))])


def linears(cfg: Config) -> dict[str, tuple[int, int]]:
    """(O, I) of the linears of a model of this shape, by name."""
    from bloomery.nn.model import INIT, Transformer
    from bloomery.nn.modules import rebuild
    from bloomery.nn.sites import sites

    net = rebuild(Transformer(cfg, INIT)) if cfg.modules else Transformer(cfg, None)
    held = {site.name: [p.shape for p in unit.parameters() if p.dim() > 1] for site, unit in sites(net) if site.kind == "linear"}
    return {name: tuple(each[0]) if len(each) == 1 else (sum(map(math.prod, each)), 1) for name, each in held.items()}


def pace(model: Any, ids: Sequence[int]) -> float | None:
    """Tokens per second written for one prompt; None for a model that writes none."""
    from bloomery.infer.speed import speeds

    try:
        model.net.refuse_steps()
    except BadInput:
        return None
    return speeds(model.decoder, [int(i) for i in ids], batch=1, repeats=2)["decode"]
