"""Rotary frequencies at the sizes of published models, against those of transformers."""

from __future__ import annotations

import pytest
import torch

from bloomery.nn.mapping import read_rope
from bloomery.nn.rotary import amplitude, frequencies

PUBLISHED = {  # name: width of a head, context, rope_parameters
    "Llama 2": (128, 4096, {"rope_type": "default", "rope_theta": 10000.0}),
    "LongChat": (128, 16384, {"rope_type": "linear", "rope_theta": 10000.0, "factor": 8.0}),
    "Llama 3.1": (128, 131072, {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }),
    "Llama 3.2": (64, 131072, {
        "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }),
    "Qwen2.5, YaRN": (128, 131072, {
        "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0, "original_max_position_embeddings": 32768,
    }),
    "gpt-oss, YaRN": (64, 131072, {
        "rope_type": "yarn", "rope_theta": 150000.0, "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
        "original_max_position_embeddings": 4096,
    }),
}  # fmt: skip


@pytest.mark.parametrize(("width", "context", "rope"), PUBLISHED.values(), ids=PUBLISHED)
def test_frequencies_and_amplitude_are_those_of_transformers(width, context, rope):
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    config = LlamaConfig(hidden_size=4 * width, num_attention_heads=4, max_position_embeddings=context, rope_parameters=dict(rope))
    kind = rope["rope_type"]
    make = LlamaRotaryEmbedding.compute_default_rope_parameters if kind == "default" else ROPE_INIT_FUNCTIONS[kind]
    want, size = make(config)
    told = read_rope({"rope_parameters": rope, "max_position_embeddings": context})
    found = frequencies(width, told["rope_base"], told.get("rope_scaling"), torch.device("cpu"))
    torch.testing.assert_close(found, want, rtol=1e-6, atol=0)
    scaling = told.get("rope_scaling")
    assert (1.0 if scaling is None else amplitude(scaling)) == pytest.approx(size, abs=1e-12)
    if kind not in ("default", "linear"):  # some are kept, some divided, some between
        plain = frequencies(width, told["rope_base"], None, torch.device("cpu")) / found
        assert plain.min() == pytest.approx(1.0, abs=1e-5) and plain.max() == pytest.approx(rope["factor"], rel=1e-5)
        assert ((plain > 1.01) & (plain < rope["factor"] * 0.99)).any()
