"""Attention with everything that may be asked of it at once, and across two texts, against formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.nn.attention import attend
from bloomery.nn.config import Config
from bloomery.nn.context import Context
from bloomery.nn.cross import CrossAttention

torch.set_num_threads(1)


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def written_out(q, k, v, sees, cap, bias) -> torch.Tensor:
    """One head of one row at a time; `sees(query, key)` says what is seen."""
    T, H, E = q.shape
    out = torch.zeros(T, H, E)
    for h in range(H):
        own = h // (H // k.shape[1])
        for t in range(T):
            keys = [s for s in range(T) if sees(t, s)]
            scores = torch.stack([q[t, h] @ k[s, own] for s in keys])
            scores = scores + (torch.stack([bias[h, t, s] for s in keys]) if bias is not None else 0)
            scores = cap * torch.tanh(scores / cap) if cap else scores
            out[t, h] = sum(p * v[s, own] for p, s in zip(scores.softmax(0), keys, strict=True))
    return out.flatten(1)


@settings(max_examples=25, deadline=None)
@given(
    length=st.integers(1, 23), kv_heads=st.sampled_from([1, 2, 4]), causal=st.booleans(), window=st.sampled_from([0, 1, 3, 40]),
    cap=st.sampled_from([0.0, 0.7]), biased=st.booleans(), prefix=st.integers(0, 6), cut=st.integers(0, 23), gradients=st.booleans(),
)  # fmt: skip
def test_masks_windows_caps_biases_and_groups_together(length, kv_heads, causal, window, cap, biased, prefix, cut, gradients):
    q, k, v = (drawn(1, length, heads, 4, seed=i) for i, heads in enumerate((4, kv_heads, kv_heads)))
    documents = None if cut == 0 else torch.tensor([[int(t >= cut) for t in range(length)]])
    seen_by_all = torch.tensor([[t < prefix for t in range(length)]]) if prefix else None
    bias = drawn(4, length, length, seed=9) if biased else None

    def sees(t: int, s: int) -> bool:
        if documents is not None and documents[0, t] != documents[0, s]:
            return False
        near = (s <= t or not causal) and (not window or abs(t - s) < window)
        return near or s < prefix

    with torch.set_grad_enabled(gradients):
        found = attend(q, k, v, documents, causal, window, cap, 1.0, bias, seen_by_all)
    torch.testing.assert_close(found[0], written_out(q[0], k[0], v[0], sees, cap, bias), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_across_two_texts(kv_heads):
    cfg = Config(31, 16, 1, 4, kv_heads, 24, 32, qkv_bias=True, out_bias=True, encoder_layers=1, query_scalar=9.0)
    cross, x, source = CrossAttention(cfg), drawn(2, 5, 16, seed=0), drawn(2, 7, 16, seed=1)
    seen = torch.rand(2, 5, 7, generator=torch.Generator().manual_seed(2)) < 0.6
    seen[:, :, 0] = True
    keys, values = cross.kv(source).split(kv_heads * 4, dim=-1)
    want = torch.zeros(2, 5, 16)
    for b in range(2):
        for h in range(4):
            own = slice(4 * (h // (4 // kv_heads)), 4 * (h // (4 // kv_heads)) + 4)
            for t in range(5):
                at = seen[b, t].nonzero().flatten()
                q = cross.q(x)[b, t, 4 * h : 4 * h + 4]
                shares = (keys[b, at, own] @ q / math.sqrt(9.0)).softmax(0)
                want[b, t, 4 * h : 4 * h + 4] = shares @ values[b, at, own]
    nothing = torch.empty(0)
    found = cross(x, Context(nothing, nothing, source=source, seen=seen))
    torch.testing.assert_close(found, cross.out(want), rtol=1e-4, atol=1e-5)
    whole = cross(x, Context(nothing, nothing, source=source))
    torch.testing.assert_close(whole, cross(x, Context(nothing, nothing, source=source, seen=torch.ones_like(seen))), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("length", [256, 301])
def test_long_rows_in_bfloat16_are_the_fused_kernels_within_rounding(length, kv_heads):
    q, k, v = (drawn(2, length, heads, 16, seed=i) for i, heads in enumerate((4, kv_heads, kv_heads)))
    with torch.no_grad():
        wanted = attend(q, k, v, scale=0.2)
        found = attend(*(z.bfloat16() for z in (q, k, v)), scale=0.2)
    assert found.dtype == torch.bfloat16 and found.shape == wanted.shape == (2, length, 64)
    assert float((found.float() - wanted).abs().max()) < 0.05 and float((found.float() - wanted).norm() / wanted.norm()) < 0.01
