"""transformers' Trainer in bf16 with its own data loader and fused AdamW; kinds: bf16, grouped (documents of like length together)."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers_loop import tensors
from turns import Job, Turns, begin, padded


class InTurns(TrainerCallback):
    """Waits before each step, notes tokens and loss after it; `made` are the trained tokens of all batches so far."""

    def __init__(self, turns: Turns, made: list[int]) -> None:
        self.turns, self.made = turns, made

    def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.turns.next_step()

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        self.turns.tokens.append(self.made[state.global_step - 1])

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **given: Any) -> None:
        self.turns.losses.append(logs["loss"])


class Documents(torch.utils.data.Dataset):
    """Rows or documents, one at a time."""

    def __init__(self, job: Job) -> None:
        with np.load(job.text) as text:
            if "rows_SBT1" in text:
                self.all = list(text["rows_SBT1"].astype(np.int64).reshape(-1, job.context + 1))
            else:
                self.all = np.split(text["ids"].astype(np.int64), np.cumsum(text["lengths"])[:-1])

    def __len__(self) -> int:
        return len(self.all)

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        return {"input_ids": self.all[i]}


def main() -> None:
    job, turns = begin()

    def collate(documents: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        these = [one["input_ids"] for one in documents]
        inputs, targets = padded(these, max(map(len, these)) - 1)
        made.append(int((targets >= 0).sum()))
        return tensors(inputs, targets, "cpu")

    made: list[int] = []  # trained tokens of the batches that the loader has made; it is one ahead
    net = AutoModelForCausalLM.from_pretrained(job.folder, dtype=torch.float32).train()
    with tempfile.TemporaryDirectory() as folder:
        told = TrainingArguments(
            folder, per_device_train_batch_size=job.rows, max_steps=100_000, learning_rate=job.rate, adam_beta1=job.beta1,
            adam_beta2=job.beta2, adam_epsilon=job.eps, weight_decay=job.decay, max_grad_norm=job.clip, lr_scheduler_type="constant",
            optim="adamw_torch_fused", bf16=True, use_cpu=job.device == "cpu", logging_steps=1, save_strategy="no", report_to=[],
            disable_tqdm=True, train_sampling_strategy="group_by_length" if job.kind == "grouped" else "sequential",
            dataloader_pin_memory=job.device != "cpu", remove_unused_columns=False,
        )  # fmt: skip
        trainer = Trainer(net, told, train_dataset=Documents(job), data_collator=collate, callbacks=[InTurns(turns, made)])
        trainer.train()


if __name__ == "__main__":
    main()
