"""The bytes of GGUF's block types: numbers to bytes and back, in numpy.

A block has 32 columns, in Q4_K a block of 256 has eight such. Q8_0 is an fp16 scale and 32 signed bytes a block (8.5 bits a weight), Q4_0
an fp16 scale and 32 codes of -8 to 7 in 16 bytes (4.5 bits); both mean scale x code. Q4_K is two fp16 numbers d and e, eight pairs of
6-bit numbers s and m, and 256 codes of 0 to 15 (4.5 bits); it means d s code - e m.

Shapes: O rows (outputs), I columns (inputs), N blocks of 256 columns, B = 8 parts of a block, K = 32 columns of a part.
"""

from __future__ import annotations

import numpy as np

BLOCK, SUPER = 32, 256  # columns of a block
BITS = {"Q8_0": 8, "Q4_0": 4}  # of the types that are codes with a scale
QUANTIZED = (*BITS, "Q4_K")  # types of blocks
MOST = 63  # the largest number of 6 bits
RANGES = np.linspace(0.8, 1.1, 15, dtype=np.float32)  # shares of a part's range that codes may cover, of which the best is taken
TURNS = 3  # of codes and of the line through them
CHUNK = 1 << 12  # blocks of 256 quantized at a time


def fitting(kind: str, columns: int) -> str:
    """The type for rows of so many columns: Q8_0 where they are no multiple of 256, F16 where they are none of 32."""
    kind = "Q8_0" if kind == "Q4_K" and columns % SUPER else kind
    return "F16" if kind in BITS and columns % BLOCK else kind


def coded(codes_OI: np.ndarray, scale_OG: np.ndarray, group: int, kind: str) -> np.ndarray:
    """Codes and fp16 scales as the bytes of Q8_0 or Q4_0, (O, bytes of a row): a scale is repeated for every 32 of its columns."""
    rows, columns = codes_OI.shape
    scale = np.repeat(scale_OG.astype("<f2"), group // BLOCK, axis=1)[:, : columns // BLOCK]
    scale = np.ascontiguousarray(scale).reshape(rows, -1, 1).view(np.uint8)
    codes = codes_OI.astype(np.int8).reshape(rows, -1, BLOCK)
    if kind == "Q4_0":
        nibbles = (codes + 8).astype(np.uint8)
        codes = nibbles[..., : BLOCK // 2] | nibbles[..., BLOCK // 2 :] << 4
    return np.concatenate([scale, codes.view(np.uint8)], axis=-1).reshape(rows, -1)


def quantized(values_OI: np.ndarray, kind: str) -> np.ndarray:
    """fp32 numbers as the bytes of a type, (O, bytes of a row), each rounded for itself."""
    import gguf

    if kind != "Q4_K":
        return gguf.quants.quantize(values_OI, gguf.GGMLQuantizationType[kind])
    w_NBK = values_OI.astype(np.float32).reshape(-1, SUPER // BLOCK, BLOCK)
    made = [_packed(*_settled(part, *fitted(part))) for part in np.array_split(w_NBK, -(-len(w_NBK) // CHUNK))]
    return np.concatenate(made).reshape(len(values_OI), -1)


def meaning(data: np.ndarray, kind: str) -> np.ndarray:
    """The fp32 numbers of the bytes of a type (O, bytes of a row), computed here and not by the package that wrote them."""
    if kind == "Q4_K":
        return _meaning_k(data)
    each = data.reshape(len(data), -1, 2 + BLOCK * BITS[kind] // 8)
    scale, codes = each[..., :2].copy().view("<f2").astype(np.float32), each[..., 2:]
    if kind == "Q4_0":
        codes = np.concatenate([codes & 15, codes >> 4], axis=-1).astype(np.int8) - 8
    return (scale * codes.view(np.int8).astype(np.float32)).reshape(len(data), -1)


# ---- Q4_K ---------------------------------------------------------------------------------------------------------------


def fitted(w_NBK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Step and depth of every part (N, B), neither negative, for which step x code - depth comes nearest to its numbers.

    Ranges of several widths give codes; for these, the best step and depth are those of a straight line through the points (code,
    number), by least squares, and for these again other codes are the nearest. The pair with the least error is taken.
    """
    low, high = np.minimum(w_NBK.min(-1, keepdims=True), 0), w_NBK.max(-1, keepdims=True)
    best_NB = np.full(w_NBK.shape[:2], np.inf, np.float32)
    step_NB, depth_NB = np.zeros_like(best_NB), np.zeros_like(best_NB)
    for share in RANGES:
        step, depth = (high - low)[..., 0] * share / 15, -low[..., 0]
        for _ in range(TURNS):
            codes = np.clip(np.rint((w_NBK + depth[..., None]) / np.maximum(step, 1e-30)[..., None]), 0, 15)
            step, depth = _line(codes, w_NBK)
            error = np.square(step[..., None] * codes - depth[..., None] - w_NBK).sum(-1)
            better = error < best_NB
            best_NB = np.where(better, error, best_NB)
            step_NB, depth_NB = np.where(better, step, step_NB), np.where(better, depth, depth_NB)
    return step_NB, depth_NB


def _line(codes_NBK: np.ndarray, w_NBK: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The straight line step x code - depth nearest to the numbers; where its depth were negative, the nearest through zero."""
    codes, mean, w = codes_NBK.sum(-1), codes_NBK.mean(-1, keepdims=True), w_NBK.mean(-1)
    spread = np.square(codes_NBK - mean).sum(-1)
    step = ((codes_NBK - mean) * w_NBK).sum(-1) / np.maximum(spread, 1e-30)
    depth = step * mean[..., 0] - w
    squares = np.square(codes_NBK).sum(-1)
    through = (codes_NBK * w_NBK).sum(-1) / np.maximum(squares, 1e-30)
    flat = (depth < 0) | (spread == 0) & (codes > 0)
    return np.maximum(np.where(flat, through, step), 0), np.maximum(np.where(flat, 0, depth), 0)


def _settled(w_NBK: np.ndarray, step_NB: np.ndarray, depth_NB: np.ndarray) -> tuple[np.ndarray, ...]:
    """d, e (N, fp16), s, m (N, B, 6 bits) and codes (N, B, K), the codes nearest to the numbers once all else is what is stored."""
    parts = []
    for each_NB in (step_NB, depth_NB):
        unit_N = (each_NB.max(-1) / MOST).astype(np.float16)
        whole = unit_N.astype(np.float32)[:, None]
        parts += [unit_N, np.clip(np.rint(each_NB / np.where(whole > 0, whole, np.inf)), 0, MOST).astype(np.uint8)]
    d_N, s_NB, e_N, m_NB = parts
    step, depth = d_N.astype(np.float32)[:, None] * s_NB, e_N.astype(np.float32)[:, None] * m_NB
    codes = np.rint((w_NBK + depth[..., None]) / np.where(step > 0, step, np.inf)[..., None])
    return d_N, e_N, s_NB, m_NB, np.clip(codes, 0, 15).astype(np.uint8)


def _packed(d_N: np.ndarray, e_N: np.ndarray, s_NB: np.ndarray, m_NB: np.ndarray, codes_NBK: np.ndarray) -> np.ndarray:
    """The 144 bytes of each block. Of the eight s and m, the first four lie in 6 bits of a byte each, the others' upper 2 bits above
    them and their lower 4 side by side; of codes, two parts share the halves of 32 bytes."""
    units = np.stack([d_N, e_N], axis=1).astype("<f2").view(np.uint8)
    above = [each[:, :4] | each[:, 4:] >> 4 << 6 for each in (s_NB, m_NB)]
    below = s_NB[:, 4:] & 15 | (m_NB[:, 4:] & 15) << 4
    nibbles = codes_NBK[:, 0::2] | codes_NBK[:, 1::2] << 4
    return np.concatenate([units, *above, below, nibbles.reshape(len(d_N), -1)], axis=1)


def _meaning_k(data: np.ndarray) -> np.ndarray:
    each = data.reshape(-1, 144)
    d, e = (each[:, i : i + 2].copy().view("<f2").astype(np.float32) for i in (0, 2))
    first, second, below = each[:, 4:8], each[:, 8:12], each[:, 12:16]
    s_NB = np.concatenate([first & MOST, below & 15 | first >> 6 << 4], axis=1)
    m_NB = np.concatenate([second & MOST, below >> 4 | second >> 6 << 4], axis=1)
    nibbles = each[:, 16:].reshape(-1, 4, BLOCK)
    codes_NBK = np.stack([nibbles & 15, nibbles >> 4], axis=2).reshape(-1, SUPER // BLOCK, BLOCK)
    step, depth = d * s_NB.astype(np.float32), e * m_NB.astype(np.float32)
    return (step[..., None] * codes_NBK.astype(np.float32) - depth[..., None]).reshape(len(data), -1)
