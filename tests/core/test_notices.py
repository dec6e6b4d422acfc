"""Known notices of imports are passed over where they say nothing, and nothing else is."""

from __future__ import annotations

import logging
import sys
from types import SimpleNamespace

import pytest

from bloomery.core import notices

KERNEL = "Failed to load /somewhere/_C_cutlass_90a.abi3.so: Could not load this library"
ENUM = "%s is an Enum subclass and is now natively supported"


@pytest.fixture
def hushed():
    notices.hush()
    notices.hush()
    yield
    for name in notices.KNOWN:
        logging.getLogger(name).removeFilter(notices.wanted)
        assert notices.wanted not in logging.getLogger(name).filters, "said twice, it stands there once"


def seen(name: str, level: int, message: str) -> bool:
    """Whether a logger passes a record on; what handlers it has is up to who imported what before."""
    return bool(logging.getLogger(name).filter(logging.LogRecord(name, level, "somewhere.py", 1, message, None, None)))


@pytest.mark.parametrize("gpu", [False, True])
def test_kernels_are_passed_over_where_there_is_no_gpu(hushed, monkeypatch, gpu):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: gpu)))
    assert seen("torchao", logging.WARNING, KERNEL) == gpu
    assert not seen("torch.utils._pytree", logging.WARNING, ENUM)


def test_all_else_is_seen(hushed):
    assert seen("torchao", logging.ERROR, KERNEL)
    assert seen("torchao", logging.WARNING, "Skipping import of cpp extensions")
    assert seen("torch.utils._pytree", logging.WARNING, "registered twice")
    assert seen("torchao.ops", logging.WARNING, KERNEL)
