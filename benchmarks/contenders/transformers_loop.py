"""The loop that transformers' documentation shows, with torch's fused AdamW; kinds: fp32, bf16, compile (bf16 and torch.compile)."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM
from turns import Job, batches, begin


def adamw(net: torch.nn.Module, job: Job) -> torch.optim.AdamW:
    """Decay of matrices alone, as the other contenders have it."""
    groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
    for p in net.parameters():
        groups[p.dim() > 1].append(p)
    given = [{"params": groups[True], "weight_decay": job.decay}, {"params": groups[False], "weight_decay": 0.0}]
    return torch.optim.AdamW(given, lr=job.rate, betas=(job.beta1, job.beta2), eps=job.eps, fused=True)


def tensors(inputs: Any, targets: Any, device: str) -> dict[str, torch.Tensor]:
    """What the model is called with; a mask where there is padding. `shift_labels` are targets that are shifted already."""
    ids, wanted = torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device)
    given = {"input_ids": ids, "labels": wanted, "shift_labels": wanted}
    return {**given, "attention_mask": (wanted >= 0).long()} if (targets < 0).any() else given


def main() -> None:
    job, turns = begin()
    net = AutoModelForCausalLM.from_pretrained(job.folder, dtype=torch.float32).to(job.device).train()
    optimizer = adamw(net, job)
    forward = torch.compile(net) if job.kind == "compile" else net
    for inputs, targets in batches(job):
        turns.next_step()
        with torch.autocast(job.device, torch.bfloat16, enabled=job.kind != "fp32"):
            loss = forward(**tensors(inputs, targets, job.device), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), job.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        turns.losses.append(float(loss.detach()))
        turns.tokens.append(int((targets >= 0).sum()))


if __name__ == "__main__":
    main()
