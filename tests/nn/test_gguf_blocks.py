"""The bytes of GGUF's block types against the package gguf's reading of them and against ggml's own quantizer."""

import ctypes
from pathlib import Path

import gguf as package
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.nn import gguf_blocks


def read(data: np.ndarray, kind: str) -> np.ndarray:
    return package.quants.dequantize(data, package.GGMLQuantizationType[kind])


def weights(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """Normal numbers, some rows far larger, one part of zeros, one of equal numbers of either sign."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(rows, columns)) * draw.lognormal(size=(rows, 1))
    values[0, :32], values[1, :32], values[2, :32] = 0, 0.7, -0.7
    return values.astype(np.float32)


@pytest.mark.parametrize("kind", gguf_blocks.QUANTIZED)
def test_our_reading_of_blocks_is_that_of_the_package(kind):
    data = gguf_blocks.quantized(weights(6, 512), kind)
    assert data.shape == (6, package.quants.quant_shape_to_byte_shape((6, 512), package.GGMLQuantizationType[kind])[1])
    assert np.array_equal(gguf_blocks.meaning(data, kind), read(data, kind))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_byte_of_a_block_is_read_as_the_package_reads_it(seed):
    data = np.random.default_rng(seed).integers(0, 256, (3, 288), dtype=np.uint8)
    for at in (0, 2, 144, 146):  # fp16 numbers that are finite
        data[:, at : at + 2] = np.random.default_rng(seed).normal(size=(3, 1)).astype("<f2").view(np.uint8)
    assert np.array_equal(gguf_blocks.meaning(data, "Q4_K"), read(data, "Q4_K"))


def test_what_a_block_can_say_exactly_stays():
    draw = np.random.default_rng(0)
    step, depth = (draw.integers(1, 64, (4, 8, 1)).astype(np.float32) / 64 for _ in range(2))
    codes = draw.integers(0, 16, (4, 8, 32)).astype(np.float32)
    codes[..., 0], codes[..., 1] = 0, 15
    step[:, 0], depth[:, 0] = 63 / 64, 63 / 64
    values = (step * codes - depth).reshape(2, 512)
    assert np.allclose(gguf_blocks.meaning(gguf_blocks.quantized(values, "Q4_K"), "Q4_K"), values, atol=1e-6)


def test_zeros_and_equal_numbers_are_kept_near():
    values = weights(3, 256)
    back = gguf_blocks.meaning(gguf_blocks.quantized(values, "Q4_K"), "Q4_K")
    apart, largest = np.abs(back - values)[1:3, :32].max(1), np.abs(values[1:3]).max(1)
    assert not back[0, :32].any() and (apart < 0.02 * largest).all()  # steps are 6-bit shares of the largest of their block


def error(back: np.ndarray, values: np.ndarray) -> float:
    return float(np.square(back - values).mean() / np.square(values).mean())


def test_the_error_is_no_larger_than_that_of_ggmls_own_quantizer():
    llama = pytest.importorskip("llama_cpp")
    ggml = ctypes.CDLL(str(Path(llama.__file__).parent / "lib" / "libggml-base.so"))
    values = np.random.default_rng(1).normal(size=(64, 512)).astype(np.float32)
    theirs = np.zeros((64, 288), dtype=np.uint8)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p]
    size = ggml.ggml_quantize_chunk(int(package.GGMLQuantizationType.Q4_K), values.ctypes.data, theirs.ctypes.data, 0, 64, 512, None)
    assert size == theirs.size
    ours = gguf_blocks.quantized(values, "Q4_K")
    assert error(read(ours, "Q4_K"), values) < error(read(theirs, "Q4_K"), values)
    assert error(read(ours, "Q4_K"), values) < 0.85 * error(read(gguf_blocks.quantized(values, "Q4_0"), "Q4_0"), values)


def test_rows_that_blocks_do_not_divide_take_another_type():
    assert [gguf_blocks.fitting("Q4_K", columns) for columns in (512, 192, 80)] == ["Q4_K", "Q8_0", "F16"]
    assert gguf_blocks.fitting("Q4_0", 192) == "Q4_0" and gguf_blocks.fitting("F32", 7) == "F32"
