"""Weights in one piece of memory on large pages.

A step of one row reads every weight once, in order: a stream that ends at each page of 4 KiB, because the processor fetches ahead within a
page alone and looks up where the next one lies. Linux hands out pages of 2 MiB where it is asked to
(/sys/kernel/mm/transparent_hugepage/enabled: madvise or always).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from weakref import WeakValueDictionary

import torch
from torch import Tensor, UntypedStorage, nn

LARGE = 2 << 20
APART = 64  # bytes between the beginnings of tensors: a line of the caches
ROOMS: WeakValueDictionary[int, mmap.mmap] = WeakValueDictionary()  # by where they begin, for as long as a tensor lies in them


@torch.inference_mode(False)  # in which a parameter would become one that nothing can train
def in_large_pages(net: nn.Module) -> int:
    """Moves what a network holds in memory to large pages, in place; the bytes moved, 0 where the system has no such call.

    What shares memory shares it still. A tensor that is a small part of a larger memory stays where it is, and so does what was moved
    before: another engine may be reading it.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return 0
    groups: dict[int, list[Tensor]] = {}
    for one in held(net):
        if one.layout == torch.strided and one.device.type == "cpu":
            groups.setdefault(one.untyped_storage().data_ptr(), []).append(one)
    moved = [group for place, group in groups.items() if place not in ROOMS and _whole(group)]
    if not (size := sum(_padded(_memory(group)) for group in moved)):
        return 0
    room = _room(size)
    at = -room.data_ptr() % LARGE
    for group in moved:
        old = _memory(group)
        room[at : at + old.nbytes()] = torch.empty(0, dtype=torch.uint8).set_(old)
        for one in group:
            began = at // one.itemsize + one.storage_offset()
            one.data = torch.empty(0, dtype=one.dtype).set_(room.untyped_storage(), began, one.shape, one.stride())
        at += _padded(old)
    return size


def held(net: nn.Module) -> Iterator[Tensor]:
    """Every tensor that a network and its parts hold, each once."""
    known: set[int] = set()
    for unit in net.modules():
        for one in (*unit._parameters.values(), *unit._buffers.values(), *vars(unit).values()):
            if isinstance(one, Tensor) and id(one) not in known:
                known.add(id(one))
                yield one


def _whole(group: list[Tensor]) -> bool:
    """Whether some tensors are about all that lies in their memory."""
    parts = {(one.storage_offset() * one.itemsize, one.nbytes) for one in group}
    return 0 < _memory(group).nbytes() <= 1.1 * sum(nbytes for _, nbytes in parts)


def _memory(group: list[Tensor]) -> UntypedStorage:
    """The longest memory of tensors whose memories begin at one place."""
    return max((one.untyped_storage() for one in group), key=UntypedStorage.nbytes)


def _padded(memory: UntypedStorage) -> int:
    return -(-memory.nbytes() // APART) * APART


def _room(size: int) -> Tensor:
    """So many bytes and up to a large page more, of which none is taken before it is written."""
    memory = mmap.mmap(-1, size + 2 * LARGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    room = torch.frombuffer(memory, dtype=torch.uint8)
    ROOMS[room.data_ptr()] = memory
    return room
