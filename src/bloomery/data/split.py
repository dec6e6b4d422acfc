"""The held-out split: whole packages, drawn in an order that depends on the seed and their names alone."""

from __future__ import annotations

from collections.abc import Sequence

from bloomery.core.errors import BadInput
from bloomery.core.rng import digest
from bloomery.seams import Rng

SLACK = 1.5  # a package may overshoot the wanted bytes by this factor
MOST = 0.2  # of the wanted bytes that one package fills while smaller ones are there: one author is no measure


def held_out(packages: Sequence[str], sizes: Sequence[int], share: float, rng: Rng) -> set[str]:
    """Packages that together hold about `share` of the bytes; the biggest is never among them.

    Packages come in the order of a hash of their names, small ones before any that would fill more than `MOST` of what is wanted;
    one that would overshoot is passed over, and when all would, the smallest is taken. Raises BadInput when all documents belong to
    one package.
    """
    if share <= 0:
        return set()
    totals: dict[str, int] = {}
    for package, size in zip(packages, sizes, strict=True):
        totals[package] = totals.get(package, 0) + int(size)
    if len(totals) < 2:
        only = next(iter(totals), "")
        mend = "say `package: COLUMN` of a table, `package: path` of a folder whose files stand alone, or `heldout: 0`"
        raise BadInput(f"all documents belong to one package ({only!r}), so none can be held out; {mend}")
    biggest = max(totals, key=lambda name: (totals[name], name))
    wanted, held, chosen = share * sum(totals.values()), 0, set()
    for name in sorted(totals.keys() - {biggest}, key=lambda name: (totals[name] > MOST * wanted, digest(rng.child(name)), name)):
        if held < wanted and held + totals[name] <= SLACK * wanted:
            chosen.add(name)
            held += totals[name]
    return chosen or {min(totals.keys() - {biggest}, key=lambda name: (totals[name], name))}
