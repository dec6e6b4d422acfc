"""ALiBi in a whole model, against transformers' Bloom."""

from __future__ import annotations

import pytest
import torch

from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

torch.set_num_threads(1)
PARTS = {
    "mixer_norm": "input_layernorm", "mixer.out": "self_attention.dense", "mlp_norm": "post_attention_layernorm",
    "mlp.up": "mlp.dense_h_to_4h", "mlp.down": "mlp.dense_4h_to_h",
}  # fmt: skip


@pytest.mark.parametrize("heads", [4, 6])  # a power of two, and a number that is none
@torch.no_grad()
def test_a_model_with_slopes_gives_the_logits_of_bloom(heads):
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(3)
    theirs = BloomForCausalLM(BloomConfig(vocab_size=97, hidden_size=24, n_layer=2, n_head=heads)).eval()
    for p in theirs.parameters():
        p.normal_(0.0, 0.15).add_(0.0 if p.dim() > 1 else 0.5)
    cfg = Config(
        97, 24, 2, heads, heads, 96, 64, norm="layer", positions="alibi", gated=False, activation="gelu_tanh", qkv_bias=True,
        out_bias=True, mlp_bias=True, embed_norm=True,
    )  # fmt: skip
    state = {f"transformer.{name}": t for name, t in theirs.transformer.state_dict().items()}
    wanted = {"embed.weight": state["transformer.word_embeddings.weight"], "head.weight": state["transformer.word_embeddings.weight"]}
    for kind in ("weight", "bias"):
        wanted[f"embed_norm.{kind}"] = state[f"transformer.word_embeddings_layernorm.{kind}"]
        wanted[f"norm.{kind}"] = state[f"transformer.ln_f.{kind}"]
        for i in range(2):
            for ours, name in PARTS.items():
                wanted[f"blocks.{i}.{ours}.{kind}"] = state[f"transformer.h.{i}.{name}.{kind}"]
            fused = state[f"transformer.h.{i}.self_attention.query_key_value.{kind}"]  # head by head
            wanted[f"blocks.{i}.mixer.qkv.{kind}"] = fused.unflatten(0, (heads, 3, -1)).transpose(0, 1).flatten(0, 2)
    net = Transformer(cfg, Rng((0,)))
    net.load_state_dict(wanted)
    ids = torch.randint(0, 97, (2, 40), generator=torch.Generator().manual_seed(0))
    want = theirs(ids).logits
    assert want.std() > 0.2 and (net.logits(net(ids)) - want).abs().max() < 1e-5
    with torch.enable_grad():
        assert (net.logits(net(ids)) - want).abs().max() < 1e-5
