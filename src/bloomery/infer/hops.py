"""One hop of a model's way: how far a copy is from what it was made from, in tokens, in logits and in what it writes.

Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.infer.parity import Parity, parity
from bloomery.infer.players import END, Messages, Player, Reread, Server

SLACK = 1e-3  # nats: what two orders of summing may make of a logit


@dataclass(frozen=True)
class Material:
    """What both players of a hop are given."""

    texts: Sequence[str]
    chats: Sequence[Messages]
    sequences: Sequence[Sequence[int]]  # token ids to predict, two at least
    prompt: int = 32  # first tokens of a sequence that are continued
    prompts: int = 8  # sequences that are continued
    new: int = 24  # tokens that a continuation has


@dataclass(frozen=True)
class Compared:
    """A measured hop."""

    token_ids_differ: int  # texts and conversations with other token ids
    texts: int  # texts and conversations compared
    example: str  # the first that differs
    parity: Parity
    greedy_equal: int  # prompts that both continue alike
    greedy_total: int
    greedy_odd: int  # prompts continued otherwise although the logits differ by too little for it
    notes: tuple[str, ...] = ()


@torch.inference_mode()
def compare(reference: Player, copy: Player, given: Material) -> Compared:
    """Every measure of a hop; ValueError where no sequence fits both players."""
    count, wrong, notes = compare_ids(reference, copy, given)
    vocab, context = min(reference.vocab, copy.vocab), min(reference.context, copy.context)
    if copy.vocab < 1 << 30 and reference.vocab != copy.vocab:
        notes.append(f"compared over the {vocab} tokens that both know")
    fitting = [list(map(int, ids[:context])) for ids in given.sequences if len(ids) > 1]
    known = [ids for ids in fitting if max(ids) < vocab]
    if len(known) < len(fitting):
        notes.append(f"{len(fitting) - len(known)} sequences hold tokens that one of them does not know")
    if isinstance(copy, Server):
        found = told_parity(reference, copy, known)
    else:
        found = parity(lambda ids: reference.logits(ids)[:, :vocab], lambda ids: copy.logits(ids)[:, :vocab], known)
    written = [_prompt(ids, given, context) for ids in known[: given.prompts]]
    pairs = [(ids, copy.greedy(ids, given.new)) for ids in written if len(ids) + given.new <= context]
    if isinstance(copy, Server):
        laid = [(one, ids) for one in given.chats if (ids := reference.chat(one)) is not None and len(ids) + given.new <= context]
        told = [(ids, *copy.answer(one, given.new)) for one, ids in laid]
        wrong += [f"chat of {len(ids)} tokens, {length} there" for ids, length, _ in told if len(ids) != length]
        count += len(told)
        pairs += [(ids, answer) for ids, _, answer in told]
    odds = [parted(reference, ids, theirs, given.new, reference.ends | copy.ends) for ids, theirs in pairs]
    odd = sum(one is not None and one > 2 * found.largest + SLACK for one in odds)
    notes += [copy.note] if copy.note else []
    return Compared(len(wrong), count, wrong[0] if wrong else "", found, odds.count(None), len(odds), odd, tuple(notes))


def compare_ids(reference: Player, copy: Player, given: Material) -> tuple[int, list[str], list[str]]:
    """How many texts and conversations were compared, those whose ids differ, and notes on what was not compared."""
    count, wrong, notes = 0, [], []
    for text in given.texts:
        ours = reference.encode(text)
        if ours is not None and isinstance(copy, Server) and len(ours) >= reference.context:
            continue  # a server refuses what leaves no room for an answer
        theirs = copy.encode(text)
        if ours is None or theirs is None:
            continue  # the player's note says why
        count += 1
        if ours != theirs:
            wrong.append(repr(text[:40]))
    for messages in () if isinstance(copy, Server | Reread) else given.chats:
        ours, theirs = reference.chat(messages), copy.chat(messages)
        if ours is None:
            notes = ["no chat template" if theirs is None else "it gains a chat template"]
            continue
        count += 1
        if ours != theirs:
            wrong.append("the chat template is lost" if theirs is None else f"chat {messages[-1]['content'][:40]!r}")
    return count, wrong, notes


def _prompt(ids: Sequence[int], given: Material, context: int) -> list[int]:
    """The first tokens of a sequence, with room for what comes after them."""
    return list(ids[: min(given.prompt, max(1, context - given.new))])


def parted(reference: Player, prompt: list[int], theirs: Sequence[int], limit: int, ends: frozenset[int]) -> float | None:
    """None where both write the same after `prompt`, up to an end; else by how much the reference prefers its own first other token.

    A copy may choose another token where this is less than twice the largest difference of both players' logits. Where it is more, the
    copy does not write what its own logits tell: its token-by-token path is not the one whose logits were compared.
    """
    ours, theirs = _cut(reference.greedy(prompt, limit), ends), _cut(theirs, ends)
    if ours == theirs:
        return None
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    if at == min(len(ours), len(theirs)):
        return float("inf")  # one stops short without having ended
    row = reference.logits([*prompt, *ours[:at]])[-1]
    chosen = sorted(ends) if theirs[at] == END else [theirs[at]]
    known = [one for one in chosen if one < len(row)]
    return float(row.max() - row[known].max()) if known else float("inf")


def _cut(ids: Sequence[int], ends: frozenset[int]) -> list[int]:
    """The tokens up to the first that ends a text, which becomes END: a server says that a chat's answer ended, not by which token."""
    at = next((i for i, one in enumerate(ids) if one in ends or one == END), len(ids))
    return [*ids[:at], *([END] if at < len(ids) else [])]


def told_parity(reference: Player, server: Server, sequences: Sequence[Sequence[int]]) -> Parity:
    """`parity` where the copy tells the likeliest tokens only: all others are one outcome, which makes the KL a lower bound.

    `largest` is the largest difference of a log-probability that the server tells.
    """
    kl = worst = largest = agree = nats = reference_nats = 0.0
    tokens = 0
    for ids in sequences:
        if len(ids) < 2:
            continue
        p = reference.logits(ids)[: len(ids) - 1].double().log_softmax(-1)
        for row, told, wanted in zip(p, server.told(ids), ids[1:], strict=True):
            seen = torch.tensor(list(told.top), dtype=torch.int64)
            theirs = torch.tensor(list(told.top.values()), dtype=torch.float64)
            ours = row[seen]
            each = float((ours.exp() * (ours - theirs)).sum()) + _rest(row, seen, theirs)
            kl, worst = kl + each, max(worst, each)
            largest = max(largest, float((ours - theirs).abs().max()), abs(float(row[wanted]) - told.own))
            agree += int(row.argmax()) == int(seen[theirs.argmax()])
            nats, reference_nats, tokens = nats - told.own, reference_nats - float(row[wanted]), tokens + 1
    if not tokens:
        raise ValueError("there is no sequence of two tokens to compare on")
    return Parity(kl / tokens, worst, largest, agree / tokens, nats / tokens, reference_nats / tokens, tokens)


def _rest(row: Tensor, seen: Tensor, theirs: Tensor) -> float:
    """The share of the KL from the outcome "any other token"; what the server leaves for it is known to about 1e-7."""
    kept = torch.ones(len(row), dtype=torch.bool)
    kept[seen] = False
    mass = float(row[kept].exp().sum())
    left = max(1.0 - float(theirs.exp().sum()), 1e-7)
    return mass * float(torch.tensor(mass / left, dtype=torch.float64).log()) if mass > 0 else 0.0
