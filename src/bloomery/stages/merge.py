"""Merge: an adapter and its base become one plain model that computes the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast
from bloomery.core.machine import threads

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact
    from bloomery.infer.model import Model
    from bloomery.nn.model import Transformer

LIMIT = 1e-4  # largest difference of a logit over the largest logit, in fp32: sums in another order are ten to a hundred times below it


@dataclass(frozen=True)
class Merge:
    """Fold an adapter into the weights of its base: a plain model, no slower than the base, that computes the same."""

    model: Annotated[Artifact, "model"]  # an adapter, with the path of its base
    data: Annotated[Artifact | None, "*"] = None  # tokens or chats whose held-out part both are compared on
    makes: ClassVar[str] = "model"
    needs: ClassVar[tuple] = ("torch",)

    def mode(self) -> dict:
        """Sums are made in fp32; the number of threads may change their last digit."""
        return {"precision": "float32", "threads": threads()}

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """The weights on disk; in memory the base, the sum and the copy that is read back. BadInput for a model without adapter."""
        if self.model is not None:
            demand_adapter(self.model)
        parameters = float(inputs["model"].facts.get("parameters") or 5e6)
        flops = 2 * parameters * 16 * 512 * 2
        seconds = 6 + 6 * parameters / 1e9 + flops / (0.3 * machine.matmul_flops.get("float32", 1e11))
        told = {"parameters": parameters, **{name: inputs["model"].facts[name] for name in ("config",) if name in inputs["model"].facts}}
        return Forecast(seconds, memory=6e8 + 12 * parameters, disk=4 * parameters + 1e6, facts=told)

    def run(self, job: Job) -> None:
        """Load, sum, write."""
        from bloomery.infer.sound import load
        from bloomery.methods.adapter.lora import Lora
        from bloomery.nn.hf import copy_words
        from bloomery.nn.peft import base_of
        from bloomery.nn.saving import plain, save
        from bloomery.rewrite.adapters import adapted, merge
        from bloomery.train.record import hash_weights

        demand_adapter(self.model)
        model = load(self.model.folder)
        names = adapted(model.net)
        left = merge(model.net, Lora())
        if left:
            raise BadInput(f"model: the adapters of {len(left)} linears cannot be merged, such as {left[0]}; use the model as it is")
        save(model.net, job.out)
        copy_words(model.folder, job.out)
        job.fact("parameters", model.net.cfg.parameters())
        job.fact("base", base_of(self.model.folder))
        job.fact("merged", names)
        job.fact("unmerged", left)
        job.fact("weights_sha256", hash_weights(plain(model.net)))

    def check(self, made: Path, job: Job) -> None:
        """Read back: what had no adapter is as it was, bit for bit; logits and greedy tokens are those of base and adapter."""
        from bloomery.core.rng import torch_rng
        from bloomery.infer.model import load
        from bloomery.infer.parity import parity
        from bloomery.stages._export_copy import decode_speed, logits, sequences

        adapted, merged = load(self.model.folder), load(made)
        touched, differ, count = unchanged(adapted.net, merged.net)
        job.check("weights without an adapter that changed", len(differ), 0, note=", ".join(differ[:3]) or f"of {count}")
        job.check("adapted weights that did not change", len(touched), 0, note=", ".join(touched[:3]))
        job.check("tensors of an adapter that are left", sum("base." in name for name, _ in merged.net.named_parameters()), 0)

        tried = sequences(self.model, self.data, merged.tokenizer, merged.net.cfg, job.seed)
        drawn = torch_rng(job.rng.child("ids"))
        both = {"real": (tried.ids, tried.counted), "random": (random_ids(merged.net, drawn), None)}
        reference, copy = logits(adapted.net), logits(merged.net)
        for kind, (ids, counted) in both.items():
            found = parity(reference, copy, ids, counted)
            largest = max(float(reference(one).abs().max()) for one in ids[:4])
            note = f"{found.largest:.3g} of {largest:.3g}, fp32, {found.tokens} tokens"
            job.check(f"largest logit difference over the largest logit, {kind} tokens", found.largest / largest, LIMIT, note=note)
            if kind == "real":
                other = round((1 - found.agreement) * found.tokens)
                job.check("tokens for which the likeliest next one differs", other, 0, note=f"of {found.tokens}: {tried.what}")
                speed = {name: decode_speed(one.net, one.tokenizer, ids[0]) for name, one in (("", merged), ("source_", adapted))}
                job.fact("copy", self.told(made, found, tried.what, merged.net.cfg.parameters(), speed))

    def told(self, made: Path, found: Any, text: str, parameters: int, speed: dict[str, float]) -> dict[str, Any]:
        """The fact `copy`: how large the merged model is, how near to base and adapter, and how fast."""
        size = (made / "model.safetensors").stat().st_size
        return {
            "label": "merged", "of": self.model.name, "bytes": size, "source_bytes": source_bytes(self.model.folder),
            "bits_per_weight": 8 * size / parameters, "nats": found.nats, "source_nats": found.reference_nats, "kl": found.kl,
            "worst_kl": found.worst, "agreement": found.agreement, "tokens": found.tokens, "text": text, "engine": "bloomery, fp32",
            **{f"{name}decode_tokens_per_second": value for name, value in speed.items()},
            "note": "one model instead of a base and an adapter",
        }  # fmt: skip


def demand_adapter(model: Artifact) -> None:
    """BadInput where a folder holds no adapter; free of torch, so that a plan can ask."""
    if not model.path("adapter_config.json").is_file():
        raise BadInput(f"model: {model.folder} has no adapter, so there is nothing to merge; name a model tuned through an adapter")


def unchanged(adapted: Transformer, merged: Transformer) -> tuple[list[str], list[str], int]:
    """Adapted weights that are as in the base, others that are not, and how many others there are.

    Rows of a fused linear count as weights of their own, as "blocks.0.mixer.qkv.weight:k".
    """
    from bloomery.nn.lora import LoraLinear

    state, still, differ, count = merged.state_dict(), [], [], 0
    units = {name: unit for name, unit in adapted.named_modules() if isinstance(unit, LoraLinear)}
    for name, unit in units.items():
        split = zip(unit.parts, unit.base.weight.split(unit.rows), state[f"{name}.weight"].split(unit.rows), strict=True)
        for part, old, new in split:
            if part.rank and old.equal(new) and bool(unit.b[part.name].any()):
                still.append(f"{name}.weight:{part.name}")
            elif not part.rank:
                count += 1
                differ += [] if old.equal(new) else [f"{name}.weight:{part.name}"]
    for name, old in adapted.state_dict().items():
        of = next((unit for unit in units if name.startswith(f"{unit}.")), None)
        if of is None or name == f"{of}.base.bias":
            name = name.replace(".base.", ".") if of else name
            count += 1
            differ += [] if old.equal(state[name]) else [name]
    return still, differ, count


def random_ids(net: Transformer, generator: Any) -> list[list[int]]:
    """Two rows of ids drawn from the whole vocabulary, at most 512 tokens each."""
    import torch

    return torch.randint(0, net.cfg.vocab, (2, min(net.cfg.context, 512)), generator=generator).tolist()


def source_bytes(folder: Path) -> int:
    """Bytes of the weights of an adapter and its base."""
    from bloomery.infer.model import load
    from bloomery.nn.peft import WEIGHTS, base_of

    base = Path(base_of(folder))
    found: Path | Model = base if base.is_dir() else load(str(base)).folder
    return (folder / WEIGHTS).stat().st_size + sum(file.stat().st_size for file in Path(found).glob("*.safetensors"))
