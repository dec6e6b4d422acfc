"""What the backward pass keeps of activations: counted, and through a method of the saved seam in another form.

Tensors are offered in the order of their memory, each stretch of memory once however many operations keep it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef

from bloomery.core.errors import BadInput
from bloomery.nn.sites import sites
from bloomery.seams import Saved, Site
from bloomery.train.again import Frame

SMALLEST = 1024  # numbers: what is smaller is kept as it is


class Saving:
    """A context manager around forward and backward passes; it may be entered again and again, and then keeps the larger peak.

    `peak_bytes` is the most that was kept at once, parameters and buffers left out; `plain_bytes` is what it would have been without
    the method. Numbers that carry no gradient by themselves, such as masks, angles and indices, are counted and never offered, nor is
    what the loss keeps, which belongs to no site. With a method the blocks must not be compiled: their insides would be no sites.
    """

    def __init__(self, net: nn.Module, method: Saved | None = None, others: Iterable[nn.Module] = ()) -> None:
        """`others` are further models of the loss, whose parameters are no activations either."""
        self.net, self.method, self.others = net, method, tuple(others)
        self.kept, self.plain = _Tally(), _Tally()
        self.packed: WeakValueDictionary[tuple, _Packed] = WeakValueDictionary()
        self.inside: list[Site] = []  # places that compute now, the innermost last
        self.given: set[int] = set()  # storages that those were given beside their input
        self.fixed: set[int] = set()  # storages of parameters and buffers
        self.hooks: list[Any] = []
        self.twice: list[nn.Module] = []  # sites that are computed again in the backward pass
        self.framed = False  # whether one of them computes now

    @property
    def peak_bytes(self) -> int:
        """The most that was kept at once."""
        return self.kept.peak

    @property
    def plain_bytes(self) -> int:
        """The same, had every activation been kept as it is."""
        return self.plain.peak

    def __enter__(self) -> Saving:
        nets = (self.net, *self.others)
        self.fixed = {place(t) for net in nets for t in (*net.parameters(), *net.buffers())}
        if self.method is not None:
            again = [site.name for site, module in sites(self.net) if self.twice_over(site, module)]
            for site, module in sites(self.net):
                self.hooks.append(module.register_forward_pre_hook(lambda _, given, site=site: self.go_in(site, given)))
                self.hooks.append(module.register_forward_hook(lambda *_: self.go_out(), always_call=True))
                if site.name in again and module not in self.twice:
                    self.twice.append(module)
                    module.forward = functools.partial(self.in_frame, module.forward)
        self.watch = torch.autograd.graph.saved_tensors_hooks(self.pack, self.unpack)
        self.watch.__enter__()
        return self

    def __exit__(self, *failed: Any) -> None:
        self.watch.__exit__(*failed)
        for hook in self.hooks:
            hook.remove()
        for module in self.twice:
            del module.forward  # the class's own again
        self.hooks, self.inside, self.twice, self.framed = [], [], [], False
        self.given.clear()

    def twice_over(self, site: Site, module: nn.Module) -> bool:
        """Whether a site is computed again later; BadInput for one that would then be another."""
        if not hasattr(self.method, "again") or not self.method.again(site):
            return False
        if any(unit.training and getattr(unit, "dropout", 0) for unit in module.modules()):
            raise BadInput(f"saved: {site.name} would drop other numbers when it is computed again; set dropout to 0, or recompute others")
        return True

    def in_frame(self, forward: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """A site that is computed again later; one inside another is computed with it."""
        if self.framed or not torch.is_grad_enabled():
            return forward(*given, **named)
        shares = functools.partial(_Count, self.kept), functools.partial(_Count, self.plain)
        return Frame(functools.partial(self.whole, forward), given, named, lambda t: place(t) in self.fixed, *shares)()

    def whole(self, forward: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Such a site with all that is inside it."""
        self.framed = True
        try:
            return forward(*given, **named)
        finally:
            self.framed = False

    def go_in(self, site: Site, given: Sequence[Any]) -> None:
        """A place begins to compute; what its context holds is no activation."""
        self.inside.append(site)
        for one in given:
            if isinstance(one, tuple):
                self.given |= {place(t) for t in one if isinstance(t, Tensor)}

    def go_out(self) -> None:
        """The innermost place is done, or has failed."""
        if self.inside:
            self.inside.pop()
        if not self.inside:
            self.given.clear()

    @torch.no_grad()
    def pack(self, t: Tensor) -> Any:
        """What autograd keeps instead of `t`."""
        at = place(t)
        if at in self.fixed:
            return _Kept(t, t._version)
        shared = t.numel() * t.element_size() > t.untyped_storage().nbytes()  # an expanded tensor is smaller as it is
        small = t.numel() < SMALLEST or not t.is_floating_point() or shared
        offered = self.method is not None and not hasattr(self.method, "again")
        if not offered or not self.inside or small or at in self.given:
            return _Kept(t, t._version, [_Count(self.kept, t), _Count(self.plain, t)])
        body = in_memory_order(t)
        layout = (t.numel(),) if body is not None else (t.shape, t.stride())
        key = (at, t.storage_offset(), *layout, t.dtype, t._version)
        packed = self.packed.get(key)
        if packed is None:
            form = self.method.pack(t.contiguous() if body is None else body, self.inside[-1])
            packed = self.packed[key] = _Packed(form, self.kept, t)
        return _Kept(packed, 0, [_Count(self.plain, t)], t.shape, None if body is None else t.stride())

    @torch.no_grad()
    def unpack(self, kept: _Kept) -> Tensor:
        """The tensor again; RuntimeError where it was kept as it is and has been changed since, as autograd itself would say."""
        if not isinstance(kept.what, _Packed):
            if kept.what._version != kept.version:
                raise RuntimeError("a tensor that the backward pass needs was changed in place after it had been kept")
            return kept.what
        body = self.method.unpack(kept.what.form)
        return body.reshape(kept.shape) if kept.stride is None else body.contiguous().as_strided(kept.shape, kept.stride, 0)


def saving(net: nn.Module, method: Saved | None = None, others: Iterable[nn.Module] = ()) -> Saving:
    """Enter it around each step's forward and backward; with no method it only counts."""
    return Saving(net, method, others)


class _Tally:
    """Bytes held now, and the most so far."""

    def __init__(self) -> None:
        self.now = self.peak = 0
        self.holders: dict[int, int] = {}  # storage -> how many hold it

    def add(self, number: int) -> None:
        self.now += number
        self.peak = max(self.peak, self.now)


class _Count:
    """A share in a storage that is held, until this is forgotten; the storage counts once, whole."""

    def __init__(self, tally: _Tally, t: Tensor) -> None:
        storage = t.untyped_storage()
        self.tally, self.place, self.size = tally, storage._cdata, storage.nbytes()
        self.alive = StorageWeakRef(storage)  # so that no other storage takes its place meanwhile
        holders = tally.holders.get(self.place, 0)
        tally.holders[self.place] = holders + 1
        if not holders:
            tally.add(self.size)

    def __del__(self) -> None:
        holders = self.tally.holders[self.place] - 1
        self.tally.holders[self.place] = holders
        if not holders:
            del self.tally.holders[self.place]
            self.tally.add(-self.size)


class _Packed:
    """What a method made of a stretch of memory, counted until it is forgotten."""

    def __init__(self, form: Any, tally: _Tally, source: Tensor) -> None:
        self.form, self.tally, self.size = form, tally, size_of(form)
        self.alive = StorageWeakRef(source.untyped_storage())
        tally.add(self.size)

    def __del__(self) -> None:
        self.tally.add(-self.size)


class _Kept:
    """What autograd holds: a tensor as it is, with its version, or something packed with the layout to give it back in."""

    __slots__ = ("counts", "shape", "stride", "version", "what")

    def __init__(self, what: Any, version: int, counts: Sequence[_Count] = (), shape: Any = None, stride: Any = None) -> None:
        self.what, self.version, self.counts, self.shape, self.stride = what, version, counts, shape, stride


def place(t: Tensor) -> int:
    """The storage of a tensor, as a number that is its own while it lives."""
    return t.untyped_storage()._cdata


def in_memory_order(t: Tensor) -> Tensor | None:
    """`t` with its axes in the order of memory, where it fills a stretch of memory without gaps; None where it does not."""
    order = sorted(range(t.dim()), key=lambda axis: -t.stride(axis))
    body = t.permute(order)
    return body if body.is_contiguous() else None


def size_of(form: Any) -> int:
    """Bytes of all tensors in a packed form."""
    if isinstance(form, Tensor):
        return form.untyped_storage().nbytes()
    if isinstance(form, Mapping):
        return sum(map(size_of, form.values()))
    return sum(map(size_of, form)) if isinstance(form, tuple | list) else 0
