"""A network over a paged cache, for tests that compare it with one pass of the whole."""

from collections.abc import Sequence

import torch

from bloomery.infer.cache import Reading, Step
from bloomery.infer.pages import PAGE
from bloomery.infer.slots import Slots
from bloomery.nn.model import Transformer


def in_portions(net: Transformer, ids_BT: torch.Tensor, cuts: Sequence[int], begins: Sequence[int] = ()) -> list[torch.Tensor]:
    """Hidden states (T, D) of every row, whose tokens before `begins` are none of it.

    The first cut, which reaches beyond them, is read; the others are stepped.
    """
    begins, length = list(begins) or [0] * len(ids_BT), ids_BT.shape[1]
    slots = Slots(net.cfg, len(ids_BT), length, net.embed.weight.dtype, exact=False, share=False)
    rows = [ids[begin:] for ids, begin in zip(ids_BT, begins, strict=True)]
    leases = [slots.open(ids.tolist(), len(ids)) for ids in rows]
    firsts = [cuts[0] - begin for begin in begins]
    read = torch.cat([ids[:first] for ids, first in zip(rows, firsts, strict=True)])[None]
    parts = [(lease, 0, first) for lease, first in zip(leases, firsts, strict=True)]
    found = [[one] for one in net(read, cache=Reading(slots, parts))[0].split(firsts)]
    for lease, first in zip(leases, firsts, strict=True):
        slots.join(lease, first)
    for cut in cuts[1:]:
        for part in [PAGE] * (cut // PAGE) + [cut % PAGE] * bool(cut % PAGE):
            tokens = torch.stack([ids[at : at + part] for ids, at in zip(rows, slots.lengths, strict=True)])
            pages = slots.begin(part)
            for row, one in zip(found, net(tokens, cache=Step(slots, slots.memory, pages, part)), strict=True):
                row.append(one)
            slots.end(part)
    return [torch.cat(one) for one in found]
