"""Compress: a model with fewer bits for each weight, and how far it is from the one it came from."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.machine import threads
from bloomery.data.sizes import parse_size

if TYPE_CHECKING:
    from numpy import ndarray

    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact
    from bloomery.infer.model import Model

COMPARED = 8192  # tokens on which the copy is compared with its source, about
LONGEST = 2048  # tokens of a sequence at most, where the knob leaves it open
# Least share of tokens on which both find the same token likeliest, by bits of the codes or blocks of a stack; of 1 nothing is asked.
AGREES = {8: 0.95, 7: 0.95, 6: 0.92, 5: 0.86, 4: 0.75, 3: 0.4, 2: 0.05}


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
    agreement: float = -1.0  # least share of equal greedy tokens; -1 = by bits, such as 0.95 at 8 and 0.75 at 4
    makes: ClassVar[str] = "model"
    needs: ClassVar[tuple] = ("torch",)

    def __post_init__(self) -> None:
        if self.samples < 1 or self.length < 0 or self.length == 1:
            raise ValueError(f"samples must be at least 1 and length 0 or at least 2, got {self.samples} and {self.length}")
        if not -1 <= self.agreement <= 1:
            raise ValueError(f"agreement must be a share, or -1, got {self.agreement}")
        if self.budget:
            in_bytes(self.budget, 1 << 20)

    def mode(self) -> dict:
        """Everything is computed in fp32; the number of threads may change its last digit."""
        return {"precision": "float32", "threads": threads()}

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """Calibration is a forward pass, as much again for statistics; then both models read the compared text and write a little.

        BadInput for an adapter.
        """
        if self.model is not None and self.model.path("adapter_config.json").is_file():
            raise BadInput(f"{self.model.name} is an adapter; merge it first (a merge step), then compress")
        facts = inputs["model"].facts
        parameters, context = float(facts.get("parameters") or 5e6), self.length or int(facts.get("context") or 256)
        if self.budget and self.method is not None and not hasattr(self.method, "allocate"):
            raise BadInput(f"budget: {type(self.method).__name__} divides none over the linears; leave it out, or choose bitstack")
        bits = getattr(self.method, "bits", 8)
        tokens = self.samples * context
        seconds = 3 + 2 * parameters * (1.5 * tokens + 2 * COMPARED) / (0.6 * machine.matmul_flops.get("float32", 1e11))
        if hasattr(self.method, "allocate"):  # a short pass for every block of every linear, and the walk over budgets
            seconds *= 1 + 2 * getattr(self.method, "blocks", 4)
        disk = parameters * (bits + 1) / 8 + 2e6
        memory = 6e8 + 13 * parameters + min(2.2e9, 30 * tokens * math.sqrt(parameters / 12))
        return Forecast(seconds=seconds, memory=memory, disk=disk, facts={"parameters": parameters, "context": context, "bits": bits})

    # ---- run

    def run(self, job: Job) -> None:
        """Draw, compress, write, read back, and time both models at writing."""
        import torch

        from bloomery.infer.model import load
        from bloomery.nn.hf import copy_words
        from bloomery.nn.saving import digest, save
        from bloomery.rewrite.compress import compress
        from bloomery.train.allocator import keep_memory

        keep_memory()
        torch.set_num_threads(threads())
        source, copy = load(self.model.folder), load(self.model.folder)
        texts = self.calibration(copy, job)
        began = time.perf_counter()
        budget = in_bytes(self.budget, self.weights(copy)) if self.budget else math.inf
        outcome = compress(copy.net, self.method, texts, self.skip, getattr(torch, self.rest), job.log, budget)
        job.fact("compress_seconds", time.perf_counter() - began)
        save(copy.net, job.out, outcome.skipped, getattr(torch, self.rest))
        copy_words(source.folder, job.out)
        job.fact("weights_sha256", digest(copy.net))
        job.fact("layers", [vars(layer) for layer in outcome.layers])
        job.fact("skipped", outcome.skipped)
        job.fact("budget_bytes", budget if self.budget else None)
        job.fact("parameters", copy.net.cfg.parameters())
        job.fact("context", copy.net.cfg.context)
        job.fact("calibration_tokens", sum(len(ids) for ids in texts))
        back = load(job.out)
        job.fact("logit_difference_read_back", largest_difference(copy, back, texts))
        job.fact("decode_tokens_per_second", {"copy": pace(back, texts[0]), "source": pace(source, texts[0])})

    def weights(self, model: Model) -> int:
        """Weights of the linears that are made small."""
        from bloomery.nn.sites import sites
        from bloomery.rewrite.compress import choose

        found = {site.name: unit.weight.numel() for site, unit in sites(model.net) if site.kind == "linear"}
        return sum(found[name] for name in choose(list(found), self.skip)[0])

    def calibration(self, model: Model, job: Job) -> list[ndarray]:
        """Sequences of the training part."""
        from bloomery.data.samples import has, samples

        part = "train" if has(self.data.folder, "train") else "heldout"
        found = samples(self.data.folder, part, self.samples, self.cut(model), model.folder, job.seed)
        return self.sound(found, model)

    def compared(self, model: Model, job: Job) -> Any:
        """Held-out sequences, or others where nothing is held out."""
        from bloomery.data.samples import to_compare

        found = to_compare(self.data, self.cut(model), model.folder, job.seed)
        self.sound(found.ids, model)
        return found

    def cut(self, model: Model) -> int:
        """Tokens of a sequence at most."""
        context = model.net.cfg.context
        if self.length > context:
            raise BadInput(f"length {self.length} is more than the model's context of {context}; give 0 or at most {context}")
        return self.length or min(context, LONGEST)

    def sound(self, sequences: list, model: Model) -> list:
        """The same sequences; BadInput where there are none or they were made with another vocabulary."""
        if not sequences:
            raise BadInput(f"{self.data.folder} holds no text of two tokens; give another artifact as data")
        if max(int(max(ids)) for ids in sequences) >= model.net.cfg.vocab:
            raise BadInput(
                f"{self.data.name} holds token ids past the model's vocabulary of {model.net.cfg.vocab}; give data of its tokenizer"
            )
        return sequences

    # ---- check

    def check(self, made: Path, job: Job) -> None:
        """The folder holds exactly what was solved, every linear is accounted for, and the copy still speaks like its source."""
        from bloomery.infer.model import load
        from bloomery.infer.parity import parity
        from bloomery.nn import packed
        from bloomery.nn.saving import digest
        from bloomery.nn.sites import sites

        facts = job.facts or json.loads((made / "card.json").read_text(encoding="utf-8"))["facts"]
        source, copy, small = load(self.model.folder), load(made), packed.read(made)
        job.check("weights read back that differ from the solved ones", int(digest(copy.net) != facts["weights_sha256"]), 0)
        job.check("largest logit difference of the copy read back", facts["logit_difference_read_back"], 0, note="to the model in memory")
        linears = [site.name for site, _ in sites(copy.net) if site.kind == "linear"]
        lost = [name for name in linears if name not in small and name not in packed.skipped(made)]
        note = ", ".join(lost[:3]) or f"of {len(linears)}"
        job.check("share of linears neither compressed nor named as skipped", len(lost) / len(linears), 0, note=note)

        text = self.compared(source, job)
        found = parity(source.logits, copy.logits, text.ids, text.counted)
        bits = min(getattr(one, "blocks", one.bits) for one in small.values())  # a block is about a bit
        least = AGREES.get(min(bits, 8), 0.0) if self.agreement < 0 else self.agreement
        agrees, note = found.agreement >= least, f"at least {least:g} wanted at {bits} bits, {found.tokens} tokens"
        job.check("share of greedy tokens equal to the source's", found.agreement, least, ok=agrees, note=note)
        note = f"nats per token; {found.nats:.4f} against {found.reference_nats:.4f}"
        job.check("KL divergence from the source that is not finite", int(not math.isfinite(found.kl)), 0, note=note)
        sizes = weights_bytes(made), weights_bytes(self.model.folder)
        job.check("bytes of the copy for each byte of its source", sizes[0] / sizes[1], 1)
        stored = sum(one.bytes for one in small.values())
        job.fact("linear_bytes", stored)
        job.fact("linear_bits_per_weight", 8 * stored / sum(one.shape[0] * one.shape[1] for one in small.values()))
        job.fact("heldout_nats", found.nats)
        if facts.get("budget_bytes"):
            job.check("bytes of the linears for each byte of the budget", stored / facts["budget_bytes"], 1)
        self.walk(made, source, text, small, digest(copy.net), job)
        pace = facts["decode_tokens_per_second"]
        about = {
            "label": label(self.method, small), "of": self.model.name, "bytes": sizes[0], "source_bytes": sizes[1],
            "bits_per_weight": 8 * sizes[0] / copy.net.cfg.parameters(), "nats": found.nats, "source_nats": found.reference_nats,
            "kl": found.kl, "worst_kl": found.worst, "agreement": found.agreement, "tokens": found.tokens, "text": text.what,
            "decode_tokens_per_second": pace["copy"], "source_decode_tokens_per_second": pace["source"], "engine": "bloomery, fp32",
            "note": "no speed-up here: weights are turned dense when loaded",
        }  # fmt: skip
        job.fact("copy", about)

    def walk(self, made: Path, source: Model, text: Any, small: dict[str, Any], whole: str, job: Job) -> None:
        """Where linears are stacks of blocks: the copy loaded with one block of each, with two, and so on, and back to all of them."""
        from bloomery.infer.model import load
        from bloomery.infer.parity import parity
        from bloomery.nn.saving import digest
        from bloomery.nn.stacked import Stacked

        stacks = [one for one in small.values() if isinstance(one, Stacked)]
        if not stacks:
            return
        codes = sum(one.bytes for one in small.values() if not isinstance(one, Stacked))
        weights = sum(one.shape[0] * one.shape[1] for one in small.values())
        rows = []
        for level in range(1, max(one.blocks for one in stacks) + 1):
            size = codes + sum(one.first(level).bytes for one in stacks)
            copy = load(made, budget=size)
            found = parity(source.logits, copy.logits, text.ids, text.counted)
            rows.append({"blocks": level, "bytes": size, "bits": 8 * size / weights, "nats": found.nats, "kl": found.kl})
        job.fact("walk", rows)
        job.check("weights loaded to the whole budget that differ", int(digest(copy.net) != whole), 0, note=f"{len(rows)} budgets loaded")


def in_bytes(budget: str, weights: int) -> float:
    """`budget` as bytes, `weights` being in the linears; BadInput for what is neither a size nor bits."""
    number, _, unit = budget.strip().partition(" ")
    if unit.strip() in ("bit", "bits"):
        try:
            bits = float(number)
        except ValueError:
            bits = 0.0
        if not 0 < bits <= 64:
            raise BadInput(f"budget: {budget!r} says no number of bits; write it like 2.5 bits, or as a size like 1.5MB")
        return bits * weights / 8
    return float(parse_size(budget, "budget"))


def label(method: Any, small: dict[str, Any]) -> str:
    """What the copy is called in tables, such as `GPTQ 4-bit, groups of 32` or `BitStack 2.41-bit, 2 to 3 blocks`."""
    if any(one.about().get("form") for one in small.values()):
        bits = 8 * sum(one.bytes for one in small.values()) / sum(one.shape[0] * one.shape[1] for one in small.values())
        blocks = sorted({one.blocks for one in small.values() if one.about().get("form")})
        many = f"{blocks[0]} to {blocks[-1]}" if len(blocks) > 1 else f"{blocks[0]}"
        return f"{type(method).__name__} {bits:.2f}-bit, {many} block{'' if many == '1' else 's'}"
    bits = "/".join(str(one) for one in sorted({one.bits for one in small.values()}))
    groups = sorted({one.group for one in small.values()})
    wide = "whole rows" if getattr(method, "group", 0) == -1 else f"groups of {groups[-1]}"
    return f"{type(method).__name__} {bits}-bit, {wide}" + ("" if all(one.zero_OG is None for one in small.values()) else ", asymmetric")


def weights_bytes(folder: Path) -> int:
    """Bytes of a model's weights, of all shards."""
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def largest_difference(a: Model, b: Model, texts: list[ndarray]) -> float:
    """Largest absolute difference of a logit on the first few sequences."""
    return max(float((a.logits(ids) - b.logits(ids)).abs().max()) for ids in texts[:4])


def pace(model: Model, ids: ndarray) -> float:
    """Tokens per second written for one prompt."""
    from bloomery.infer.speed import speeds

    return speeds(model.decoder, ids.tolist(), batch=1, repeats=2)["decode"]
