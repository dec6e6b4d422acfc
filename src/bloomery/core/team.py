"""Processes that run one recipe together: the first walks it and calls the others to the steps that they share.

Calls go through the key-value store of torch.distributed's rendezvous, which torchrun holds, and name the address of the step: a process
with another bloomery, torch or numeric mode finds another address and refuses, before the first step.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from bloomery.core.errors import BadInput, Interrupted
from bloomery.core.ranks import Ranks

POLL, LEAVE = 0.05, 5.0  # seconds between two looks; seconds that the first process waits for the others to have read its last word
END = "$end"  # which is no name of a step


class Team:
    """Joins the processes of a launch; all make it, with the same patience."""

    def __init__(self, ranks: Ranks) -> None:
        import torch
        import torch.distributed as dist
        from torch.distributed.rendezvous import rendezvous

        self.ranks, self.number = ranks, 0
        if torch.cuda.is_available():
            torch.cuda.set_device(ranks.local % torch.cuda.device_count())
        backend, wait = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timedelta(seconds=ranks.patience)
        try:
            store, _, _ = next(rendezvous("env://", timeout=wait))
            store = dist.PrefixStore(f"start/{start(store, ranks.size)}", store)
            dist.init_process_group(backend, store=dist.PrefixStore("ranks", store), rank=ranks.rank, world_size=ranks.size, timeout=wait)
        except dist.DistError as wrong:
            raise BadInput(unmet(ranks, str(wrong))) from wrong
        self.store = dist.PrefixStore("team", store)

    # ---- the first process

    def call(self, step: str, card: Mapping[str, Any]) -> None:
        """The others begin this step."""
        self.number += 1
        self.store.set(f"order/{self.number}", json.dumps({"step": step, **identity(card)}))

    def finished(self) -> list[int]:
        """Waits until the others have done their part of it; the ranks that have not within the launch's patience."""
        left = {rank: f"done/{self.number}/{rank}" for rank in range(1, self.ranks.size)}
        until = time.monotonic() + self.ranks.patience
        while not self._there(*left.values()):
            if time.monotonic() > until:
                return [rank for rank, key in left.items() if not self._there(key)]
        return []

    def dismiss(self, code: int) -> None:
        """There is no further step; the others end with this exit code."""
        self.number += 1
        self.store.set(f"order/{self.number}", json.dumps({"step": END, "exit": code}))
        until = time.monotonic() + LEAVE
        while time.monotonic() < until and not self._there(*(f"done/{self.number}/{rank}" for rank in range(1, self.ranks.size))):
            pass

    # ---- the others

    def orders(self) -> Iterator[dict[str, Any]]:
        """What the first process calls to, until it dismisses: that is the last."""
        while True:
            order = self._order()
            if order["step"] == END:
                self.done()
                yield order
                return
            yield order
            self.done()

    def done(self) -> None:
        self.store.set(f"done/{self.number}/{self.ranks.rank}", "")

    def dismissed(self) -> int | None:
        """The exit code with which the first process has ended too, None where it has not within some seconds."""
        until = time.monotonic() + LEAVE
        while time.monotonic() < until:
            if self._there(f"order/{self.number + 1}"):
                order = self._order()
                self.done()
                return order["exit"] if order["step"] == END else None
        return None

    def _order(self) -> dict[str, Any]:
        self.number += 1
        while not self._there(f"order/{self.number}"):
            pass
        return json.loads(self.store.get(f"order/{self.number}"))

    def _there(self, *keys: str) -> bool:
        """Whether all of the keys are there, after a short wait. Interrupted where the store itself is gone: the first process ended."""
        from torch.distributed import DistNetworkError

        try:
            found = self.store.check(list(keys))
        except DistNetworkError as wrong:
            raise Interrupted("the first process has gone") from wrong
        if not found:
            time.sleep(POLL)
        return found


def unmet(ranks: Ranks, said: str) -> str:
    """What is said where the processes of a launch do not find each other."""
    place = ":".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    told = f"rank {ranks.rank}: the {ranks.size} processes of this launch have not met at {place} within {ranks.patience:.0f} s"
    return f"{told} ({said.splitlines()[0][:120] if said else 'no answer'}); start all of them, or see what the others said"


def start(store: Any, size: int) -> int:
    """Which start of the launch this is: torchrun keeps one store for all, and what an earlier start has left there must not be read. On
    one machine torchrun counts; over several, whose counts may differ, the processes are counted as they come."""
    if os.environ.get("GROUP_WORLD_SIZE", "1") == "1":
        return int(os.environ.get("TORCHELASTIC_RESTART_COUNT") or 0)
    return (store.add("arrivals", 1) - 1) // size


def identity(card: Mapping[str, Any]) -> dict[str, Any]:
    """What two processes must agree on to take part in one step; `code` is one hash of all sources."""
    code = hashlib.sha256(json.dumps(card["sources"], sort_keys=True).encode()).hexdigest()[:16]
    return {"address": card["address"], "versions": card["versions"], "mode": card["mode"], "code": code}


def demand_same(rank: int, first: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """BadInput that names what this process has otherwise than the first one."""
    if first["address"] == own["address"]:
        return
    told = [
        f"{name} {own[kind].get(name)} where rank 0 has {value}"
        for kind in ("versions", "mode")
        for name, value in first[kind].items()
        if own[kind].get(name) != value
    ]
    told += ["other source of bloomery than rank 0"] if first["code"] != own["code"] else []
    what = told[0] if told else "other inputs or files than rank 0"
    raise BadInput(f"rank {rank} has {what}; install the same on all machines and share the store, then run again")
