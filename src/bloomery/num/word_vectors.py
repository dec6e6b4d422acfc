"""Static vectors of words from how often they stand near each other, and what two such spaces have to do with each other.

Shapes: N words, C numbers of a vector, V tokens of a vocabulary, K neighbours.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.core.rng import numpy_rng
from bloomery.seams import Rng

WORD = re.compile(r"\w+|[^\w\s]")
SMOOTHED = 0.75  # exponent of a context's frequency, which keeps rare contexts from mattering most
POWERS = 4  # of the matrix in the search for its largest directions


@dataclass(frozen=True)
class Space:
    """Words by number, the most frequent first, how often each stands in the text, and its vector of length 1."""

    words: dict[str, int]
    counts_N: np.ndarray
    vectors_NC: np.ndarray


def learn(texts: Iterable[str], most: int, window: int, width: int, rng: Rng) -> Space:
    """Vectors of the `most` most frequent words; words up to `window` apart are near each other, nearer ones count for more.

    The largest directions of the positive pointwise mutual information: Levy, Goldberg & Dagan 2015, TACL 3. ValueError for a text of
    fewer than three different words.
    """
    found = [WORD.findall(text) for text in texts]
    chosen = Counter(word for words in found for word in words).most_common(most)
    if len(chosen) < 3:
        raise ValueError(f"the text holds {len(chosen)} different words, too few to learn vectors of")
    words = {word: number for number, (word, _) in enumerate(chosen)}
    gap = [-1] * window  # between texts: nothing is near over them
    stream = np.array([number for text in found for number in (*(words.get(word, -1) for word in text), *gap)])
    near_NN = nearness(stream, len(words), window)
    vectors_NC = largest(information(near_NN), min(width, len(words) - 1), rng)
    return Space(words, np.array([count for _, count in chosen], float), unit(vectors_NC))


def nearness(stream: np.ndarray, words: int, window: int) -> np.ndarray:
    """(N, N): how often two words stand near each other, those d apart counting 1 / d; -1 in the stream is no word."""
    near_NN = np.zeros(words * words, np.float32)
    for apart in range(1, window + 1):
        left, right = stream[:-apart], stream[apart:]
        both = (left >= 0) & (right >= 0)
        near_NN += np.bincount(left[both] * words + right[both], minlength=words * words).astype(np.float32) / apart
    near_NN = near_NN.reshape(words, words)
    return near_NN + near_NN.T


def information(near_NN: np.ndarray) -> np.ndarray:
    """Positive pointwise mutual information of words and their contexts, in nats."""
    word_N = near_NN.sum(1)
    context_N = word_N**SMOOTHED
    expected_NN = np.outer(word_N, context_N / max(context_N.sum(), 1e-30))
    with np.errstate(divide="ignore", invalid="ignore"):
        known_NN = np.log(near_NN / expected_NN)
    return np.maximum(np.nan_to_num(known_NN, nan=0.0, posinf=0.0, neginf=0.0), 0.0)


def largest(matrix_NN: np.ndarray, width: int, rng: Rng) -> np.ndarray:
    """Left singular vectors of the largest singular values, times their roots: (N, C). Halko, Martinsson & Tropp 2011, arXiv 0909.4061."""
    guess = numpy_rng(rng).standard_normal((len(matrix_NN), min(width + 8, len(matrix_NN)))).astype(matrix_NN.dtype)
    basis = np.linalg.qr(matrix_NN @ guess)[0]
    for _ in range(POWERS):
        basis = np.linalg.qr(matrix_NN @ (matrix_NN.T @ basis))[0]
    left, values, _ = np.linalg.svd(basis.T @ matrix_NN, full_matrices=False)
    return (basis @ left[:, :width]) * np.sqrt(values[:width])


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; rows of zeros stay."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def aligned(source_PC: np.ndarray, target_PC: np.ndarray) -> np.ndarray:
    """The rotation (C, C) by which pairs of rows come nearest: source @ rotation ~ target. Schoenemann 1966 (orthogonal Procrustes)."""
    left, _, right = np.linalg.svd(source_PC.T @ target_PC)
    return left @ right


def of_tokens(space: Space, encode: Callable[[str], Sequence[int]], tokens: int) -> np.ndarray:
    """(V, C): for each token the mean of the words that are written with it, by how often they stand in the text; zeros for no word."""
    sums_VC, weights_V = np.zeros((tokens, space.vectors_NC.shape[1])), np.zeros(tokens)
    for word, number in space.words.items():
        for written in (word, f" {word}"):
            for token in set(encode(written)):
                sums_VC[token] += space.counts_N[number] * space.vectors_NC[number]
                weights_V[token] += space.counts_N[number]
    return sums_VC / np.maximum(weights_V, 1e-12)[:, None]


def neighbours(target_VC: np.ndarray, source_VC: np.ndarray, most: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """The nearest source tokens of each target token, by cosine, and their weights, which sum to 1: (V, K) each.

    A softmax over cosines / `temperature`. Source tokens without a vector are left out; target tokens without one have weights of 0.
    """
    known, target = np.flatnonzero(np.any(source_VC, axis=1)), unit(target_VC)
    source, most = unit(source_VC[known]), min(most, len(known))
    near_VK, weight_VK = np.zeros((len(target), most), np.int64), np.zeros((len(target), most))
    for start in range(0, len(target), 1024):
        alike = target[start : start + 1024] @ source.T
        best = np.argsort(-alike, axis=1, kind="stable")[:, :most]
        scores = np.take_along_axis(alike, best, axis=1) / temperature
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        near_VK[start : start + 1024], weight_VK[start : start + 1024] = known[best], weights / weights.sum(axis=1, keepdims=True)
    return near_VK, weight_VK * np.any(target_VC, axis=1)[:, None]
