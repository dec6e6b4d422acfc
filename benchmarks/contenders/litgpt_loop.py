"""litgpt's model and loss in the loop of its `pretrain` command: Fabric, bf16-mixed, compiled, AdamW, gradients clipped."""

from __future__ import annotations

import json
from pathlib import Path

import lightning
import torch
from litgpt.config import Config
from litgpt.model import GPT
from litgpt.utils import chunked_cross_entropy
from safetensors.torch import load_file
from transformers_loop import adamw
from turns import batches, begin


def model(folder: Path) -> GPT:
    """The Llama of a Hugging Face folder in litgpt's words, the head tied to the embedding as its pretraining does it."""
    told = json.loads((folder / "config.json").read_text())
    net = GPT(
        Config(
            name="contender", block_size=told["max_position_embeddings"], padded_vocab_size=told["vocab_size"],
            n_layer=told["num_hidden_layers"], n_head=told["num_attention_heads"], n_query_groups=told["num_key_value_heads"],
            n_embd=told["hidden_size"], intermediate_size=told["intermediate_size"], rotary_percentage=1.0, parallel_residual=False,
            bias=False, norm_class_name="RMSNorm", norm_eps=told["rms_norm_eps"], mlp_class_name="LLaMAMLP",
        )
    )  # fmt: skip
    theirs, ours = load_file(folder / "model.safetensors"), {}
    ours["transformer.wte.weight"] = ours["lm_head.weight"] = theirs["model.embed_tokens.weight"]
    ours["transformer.ln_f.weight"] = theirs["model.norm.weight"]
    for layer in range(told["num_hidden_layers"]):
        block, here = f"model.layers.{layer}", f"transformer.h.{layer}"
        qkv = torch.cat([theirs[f"{block}.self_attn.{part}_proj.weight"] for part in "qkv"])
        ours |= {f"{here}.attn.qkv.weight": qkv, f"{here}.attn.proj.weight": theirs[f"{block}.self_attn.o_proj.weight"]}
        ours |= {f"{here}.norm_1.weight": theirs[f"{block}.input_layernorm.weight"]}
        ours |= {f"{here}.norm_2.weight": theirs[f"{block}.post_attention_layernorm.weight"]}
        for mine, name in (("fc_1", "gate_proj"), ("fc_2", "up_proj"), ("proj", "down_proj")):
            ours[f"{here}.mlp.{mine}.weight"] = theirs[f"{block}.mlp.{name}.weight"]
    net.load_state_dict(ours)
    net.transformer.wte.weight = net.lm_head.weight
    return net


def main() -> None:
    job, turns = begin()
    fabric = lightning.Fabric(accelerator=job.device, devices=1, precision="bf16-mixed")
    net = model(Path(job.folder)).train()
    net.max_seq_length = job.context
    net = fabric.setup(torch.compile(net))
    optimizer = fabric.setup_optimizers(adamw(net, job))
    for inputs, targets in batches(job):
        turns.next_step()
        ids, wanted = (torch.from_numpy(x).to(fabric.device) for x in (inputs, targets))
        loss = chunked_cross_entropy(net(ids), wanted)
        fabric.backward(loss)
        fabric.clip_gradients(net, optimizer, max_norm=job.clip)
        optimizer.step()
        optimizer.zero_grad()
        turns.losses.append(float(loss.detach()))
        turns.tokens.append(int((targets >= 0).sum()))


if __name__ == "__main__":
    main()
