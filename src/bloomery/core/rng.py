"""Generators from counter-based keys: the same key gives the same numbers in any process, order or number of workers."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    from bloomery.seams import Rng


def digest(rng: Rng) -> bytes:
    """32 bytes that depend on every part of the key, and on its type."""
    return hashlib.sha256(repr(rng.key).encode()).digest()


def python_rng(rng: Rng) -> random.Random:
    """A standard-library generator for this key."""
    return random.Random(digest(rng))


def numpy_rng(rng: Rng) -> np.random.Generator:
    """A numpy generator (Philox, counter based) for this key."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest(rng)[:16], "little")))


def torch_rng(rng: Rng, device: str = "cpu") -> torch.Generator:
    """A torch generator for this key on `device`."""
    import torch

    return torch.Generator(device).manual_seed(int.from_bytes(digest(rng)[:8], "little") >> 1)
