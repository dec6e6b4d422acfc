"""Which pages of a key-value cache belong to whom: taken one at a time, shared by texts that begin alike, kept for a while afterwards.

Source: Kwon et al. 2023, arXiv 2309.06180 (pages, tables, holders counted); Zheng et al. 2023, arXiv 2312.07104 (a tree of beginnings,
of which what was used longest ago goes first). Only numbers live here; the tensors are those of infer/slots.py.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

PAGE = 16  # tokens of a page
NOTHING, SCRATCH = 0, 1  # pages that are nobody's: zeros for what a row does not hold, and what idle rows write to
FIRST = 2
LUMP = 16  # pages that are wiped at a time


@dataclass(eq=False)
class Lease:
    """One sequence's pages, in order. `promised` are those that it may still take, `left` those that it will need in all."""

    pages: list[int] = field(default_factory=list)
    promised: int = 0
    left: int = 0
    shared: int = 0  # tokens at its beginning whose keys and values were there already
    known: int = 0  # pages at its beginning that are in the tree, or whose equals are
    node: int = 0  # the place in the tree after them
    shed: int = 0  # pages at its beginning that were given back


class Pages:
    """`count` pages in all. A sequence is promised all that it will need before it begins, so that none stops halfway.

    `grain` are the tokens of which multiples are shared, itself a multiple of the page; 0 shares nothing. `wipe` is told of pages that
    are about to be taken: what a weight of 0 hides must still be a number.
    """

    def __init__(self, count: int, grain: int = PAGE, wipe: Callable[[list[int]], None] = lambda pages: None) -> None:
        self.count, self.grain, self.wipe = count, grain, wipe
        self.clear()

    def clear(self) -> None:
        """Everything is free, whatever state it was in."""
        self.holders = [0] * self.count
        self.held = self.promised = 0
        self.touched = FIRST  # pages from here on were never used, so no memory stands behind them yet
        self.reused = self.evicted = 0  # tokens that were not read again; pages that others needed
        self._clean: list[int] = []
        self._dirty: list[int] = []
        self._idle: OrderedDict[int, None] = OrderedDict()  # in the tree, held by no one; the first is the next to go
        self._tree: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = {}  # node before, tokens -> page, node after
        self._place: dict[int, tuple[int, tuple[int, ...]]] = {}  # of a page in the tree
        self._nodes = 0

    @property
    def room(self) -> int:
        """Pages that can be promised."""
        return self.count - FIRST - self.held - self.promised

    @property
    def kept(self) -> int:
        """Pages that nobody holds and that may be shared again."""
        return len(self._idle)

    def open(self, ids: Sequence[int], tokens: int, most: int | None = None) -> Lease | None:
        """A lease for a sequence that begins with `ids` and will be `tokens` long, with the pages of its beginning that are there.

        `most` are the pages that it holds at one time, where it sheds what no window reaches. None where there is no room.
        """
        lease = Lease(left=-(-tokens // PAGE))
        found = self._find(lease, ids)
        revived = sum(not self.holders[page] for page, _ in found)
        need = lease.left - len(found)
        need = need if most is None else min(need, most)
        if need + revived > self.room:
            return None
        lease.promised = need
        self.promised += need
        self._hold(lease, found)
        return lease

    def rematch(self, lease: Lease, ids: Sequence[int]) -> None:
        """The same once more for a lease that has read nothing yet: others may have read its beginning meanwhile."""
        found = self._find(lease, ids)
        given = min(len(found), lease.promised)
        lease.promised -= given
        self.promised -= given
        self._hold(lease, found[:given])

    def take(self, lease: Lease, tokens: int) -> None:
        """Pages for the first `tokens` of a sequence; ValueError for more than it was promised."""
        while len(lease.pages) * PAGE < tokens:
            if not lease.promised:
                raise ValueError(f"a sequence of {len(lease.pages)} pages was promised no more, and needs room for {tokens} tokens")
            lease.pages.append(self._page())
            lease.promised -= 1
            lease.left -= 1
            self.promised -= 1

    def remember(self, lease: Lease, ids: Sequence[int], length: int) -> None:
        """The full pages of `ids[:length]`, which have been read, can be shared from now on."""
        while self.grain and not lease.shed and (lease.known + 1) * PAGE <= length:
            at = lease.known * PAGE
            place, page = (lease.node, tuple(ids[at : at + PAGE])), lease.pages[lease.known]
            if place not in self._tree:
                self._nodes += 1
                self._tree[place] = page, self._nodes
                self._place[page] = place
            lease.node = self._tree[place][1]
            lease.known += 1

    def shed(self, lease: Lease, before: int) -> list[int]:
        """Gives back the pages that lie wholly before a token; returns their places in the lease."""
        gone = list(range(lease.shed, min(before // PAGE, len(lease.pages))))
        for place in gone:
            self._release(lease.pages[place])
            lease.pages[place] = NOTHING
            if lease.left > lease.promised:
                lease.promised += 1
                self.promised += 1
        lease.shed = max(lease.shed, gone[-1] + 1) if gone else lease.shed
        return gone

    def close(self, lease: Lease) -> None:
        """Gives everything back; a beginning outlives what follows it."""
        self.promised -= lease.promised
        for page in reversed(lease.pages):
            if page != NOTHING:
                self._release(page)
        lease.pages, lease.promised, lease.left = [], 0, 0

    def _find(self, lease: Lease, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Pages, and the places after them, that go on where a lease ends; the last token is always read, for what comes after it."""
        found, node, at = [], lease.node, lease.known * PAGE
        while self.grain and at + PAGE < len(ids) and (hit := self._tree.get((node, tuple(ids[at : at + PAGE])))):
            found.append(hit)
            node, at = hit[1], at + PAGE
        whole = at // self.grain * self.grain if self.grain else 0
        return found[: max(0, whole // PAGE - lease.known)]

    def _hold(self, lease: Lease, found: Sequence[tuple[int, int]]) -> None:
        for page, node in found:
            self._idle.pop(page, None)
            self.held += not self.holders[page]
            self.holders[page] += 1
            lease.pages.append(page)
            lease.node = node
        lease.left -= len(found)
        lease.known += len(found)
        lease.shared += len(found) * PAGE
        self.reused += len(found) * PAGE

    def _release(self, page: int) -> None:
        self.holders[page] -= 1
        if not self.holders[page]:
            self.held -= 1
            if page in self._place:
                self._idle[page] = None
            else:
                self._dirty.append(page)

    def _page(self) -> int:
        if not self._clean:
            fresh = list(range(self.touched, min(self.touched + max(0, LUMP - len(self._dirty)), self.count)))
            self.touched += len(fresh)
            found, self._dirty = self._dirty + fresh, []
            if not found:
                page, _ = self._idle.popitem(last=False)
                del self._tree[self._place.pop(page)]
                self.evicted += 1
                found = [page]
            self.wipe(found)
            self._clean = found[::-1]
        page = self._clean.pop()
        self.holders[page] = 1
        self.held += 1
        return page
