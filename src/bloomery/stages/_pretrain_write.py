"""What a finished pretraining run leaves in its folder."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from bloomery.stages import _adapted, _training
from bloomery.train.record import hash_weights, typical_speed

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.nn.config import Config


def write(stage: Any, cfg: Config, weights: dict, outcome: Any, job: Job) -> None:
    """The model in float32, its tokenizer, its curve, and what is known of the run."""
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.nn.hf import TOKENIZER_FILES
    from bloomery.nn.saving import plain, save
    from bloomery.stages._pretrain_begin import PARTS

    weights = {name: weight for name, weight in weights.items() if not name.startswith(f"{PARTS}.")}
    job.fact("trained_parameters", sum(weight.numel() for weight in weights.values() if weight.is_floating_point()))
    net = finished(stage, cfg, weights, job)
    if stage.adapter is None:
        save(net, job.out)
    else:
        _adapted.written(net, stage.start[0].folder, job)
        weights = plain(net)
    Tokenizer.load(stage.data.folder).save(job.out)  # a folder from outside may lack the second of the two files
    for name in TOKENIZER_FILES:
        if stage.data.path(name).exists():
            shutil.copy(stage.data.path(name), job.out / name)
    _training.leave(job)
    job.fact("parameters", sum(weight.numel() for weight in weights.values() if weight.is_floating_point()))
    job.fact("tokens", outcome.clock.tokens)
    job.fact("steps", outcome.clock.step)
    job.fact("flops", outcome.clock.tokens * cfg.flops_per_token(stage.context))
    job.fact("final_loss", outcome.loss)
    seen = outcome.clock.seen
    job.fact("heldout_bits_per_byte", seen.get("heldout_bpb"))
    for name in ("heldout_nats", "heldout_loss"):
        if name in seen:
            job.fact(name, seen[name])
    job.fact("heldout_nats_by_domain", {name.partition("/")[2]: value for name, value in seen.items() if "/" in name})
    job.fact("loss_numbers", outcome.numbers)
    job.fact("training_seconds", outcome.seconds)
    job.fact("tokens_per_second", typical_speed(job.out / "curve.jsonl") or outcome.clock.tokens / outcome.seconds)
    job.fact("weights_sha256", hash_weights(weights))
    job.fact("audit", outcome.audit)
    job.fact("spikes", outcome.spikes)


def finished(stage: Any, cfg: Config, weights: dict, job: Job) -> Any:
    """The model that is written. Frozen weights were trained beside in the working precision, so those of the beginning are made again."""
    import torch

    from bloomery.nn.saving import assemble
    from bloomery.stages._pretrain_begin import beginning

    if stage.adapter is None:
        return assemble(cfg, weights, torch.float32, job.out)
    return _adapted.merged(beginning(stage, cfg, job), stage, weights, job.rng.child("adapter"))
