"""The first screen: what was made in a few sentences, and the few figures that matter."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.draw.cards import Card, facts, origin, real, total, trained
from bloomery.draw.chains import hops_of
from bloomery.draw.changes import pairs
from bloomery.draw.copies import KEEPS, smallest
from bloomery.draw.numbers import THIN, count, nearly, number, percent, seconds, si, signed, size
from bloomery.draw.scores import Contest, contests, headline_contest

Rows = Sequence[Mapping[str, Any]]


def headline(results: Sequence[Rows]) -> Contest | None:
    """The contest in bits per byte of the first evaluation that has one against gzip, else of the first that has one."""
    found = [c for rows in results if (c := headline_contest(contests(rows)))]
    return next((c for c in found if c.strongest("gzip")), found[0] if found else None)


def lede(cards: Sequence[Card], results: Sequence[Rows]) -> list[str]:
    """Up to two sentences: what was made from what in what time; how the model stands against gzip."""
    model = trained(cards)
    corpus = origin(cards, model, "corpus")
    made = _model_words(model) if model else ""
    text = _corpus_words(corpus) if corpus else ""
    tuned = ", then tuned to answer" if model and any(c.get("stage") == "tune" for c in cards) else ""
    took, cores = total(cards, "seconds"), _cores(cards)
    time = f"everything took {seconds(took)}{f' on {cores} cores' if cores else ''}" if took else ""
    first = (" from ".join(p for p in (made, text) if p) + tuned) if made else text
    sentences = ["; ".join(p for p in (first, time) if p)]
    found = headline(results)
    if found:
        mine, gzip = found.best(main=True), found.strongest("gzip")
        if mine and gzip and gzip["value"]:
            share = abs(1 - mine["value"] / gzip["value"])
            verb = "fewer" if mine["value"] < gzip["value"] else "more"
            sentences.append(f"On held-out text the model needs {number(mine['value'])} bits per byte: "
                             f"{share * 100:.0f}\u202f% {verb} than {gzip['subject']}, which needs {number(gzip['value'])}.")  # fmt: skip
    return [s[0].upper() + s[1:] + ("" if s.endswith(".") else ".") for s in sentences if s]


def figures(cards: Sequence[Card], results: Sequence[Rows], chains: Sequence[Mapping[str, Any]] = ()) -> list[list[dict[str, Any]]]:
    """The headline figures, results (main) in a row of their own where there are several; what the lineage does not have is left out."""
    found = [one for one in (_bits(results), _tuned(results) or _tuning(cards), _smallest(cards), _chain(chains)) if one]
    reached = [{"main": True, "tone": "", **one} for one in found]
    counted = [{"main": False, "tone": "", **one} for one in _counted(cards)]
    return [row for row in ([reached, counted] if len(reached) > 1 else [reached + counted]) if row]


def _bits(results: Sequence[Rows]) -> dict[str, Any] | None:
    contest = headline(results)
    mine, gzip = (contest.best(main=True), contest.strongest("gzip")) if contest else (None, None)
    if not mine:
        return None
    note = f"{gzip['subject']}: {number(gzip['value'])}" if gzip else ""
    return {"name": "bits per byte, held out", "value": number(mine["value"]), "note": note}


def _tuned(results: Sequence[Rows]) -> dict[str, Any] | None:
    """The measure of answers before and after tuning: nats where there are any, else the first that was paired."""
    found = [one for rows in results for one in pairs(rows)]
    one = next((p for p in found if re.search("nats", p.metric)), next(iter(found), None))
    if one is None:
        return None
    ends = f", interval {one.ends}" if one.ends else ""
    return {"name": f"{one.name}, before → after", "value": f"{one.before} → {one.after}", "note": f"change {one.shown}{ends}"}


def _tuning(cards: Sequence[Card]) -> dict[str, Any] | None:
    """The same from the card of the tuning step itself, where no evaluation paired it."""
    found = next((facts(c) for c in cards if real(facts(c).get("answer_nats_before")) is not None), {})
    before, after, change = (found.get(f"answer_nats_{k}") for k in ("before", "after", "change"))
    if real(before) is None or real(after) is None:
        return None
    ends = [real(change.get(k)) for k in ("low", "high")] if isinstance(change, Mapping) else [None, None]
    note = f"change {signed(after - before)}" + (f", interval {signed(ends[0])} to {signed(ends[1])}" if None not in ends else "")
    return {"name": "answer nats, before → after", "value": f"{number(before)} → {number(after)}", "note": note}


def _smallest(cards: Sequence[Card]) -> dict[str, Any] | None:
    found = smallest(cards)
    if found is None:
        return None
    copy, ratio, agreement = found
    least = "" if agreement == copy.get("agreement") else "at least "
    smaller = f", {number(ratio, 2)}{THIN}× smaller" if ratio else ""
    note = f"{copy.label}{smaller}; the same next token in {least}{nearly(agreement)}"
    return {"name": f"smallest copy agreeing in {percent(KEEPS)}", "value": size(copy.get("bytes") or 0), "note": note}


def _chain(chains: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    judged = [h for one in chains for h in hops_of(one) if isinstance(h.get("ok"), bool)]
    if not judged:
        return None
    held = sum(h["ok"] for h in judged)
    limited = [h for h in judged if isinstance(h.get("limits"), Mapping) and "kl" in h["limits"]]  # not those that are meant to change it
    worst = max((v for h in limited if (v := real(h.get("kl"))) is not None), default=None)
    note = f"largest KL where it is limited: {number(worst, 2)}" if worst is not None else ""
    fails = ", ".join(f"{h.get('from', '')} to {h.get('to', '')}" for h in judged if not h["ok"])
    value = f"{count(held)} of {count(len(judged))}"
    return {
        "name": "hops of the chain that hold",
        "value": value,
        "note": f"fails: {fails}" if fails else note,
        "tone": "bad" if fails else "",
    }


def _counted(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """Sizes, time and checks."""
    found: list[dict[str, Any]] = []
    model, corpus = facts(trained(cards)), facts(origin(cards, trained(cards), "corpus"))
    if real(model.get("parameters")) is not None:
        found.append({"name": "parameters", "value": si(model["parameters"]), "note": ""})
    if real(model.get("tokens")) is not None:
        found.append({"name": "tokens trained on", "value": si(model["tokens"]), "note": _speed(model)})
    if real(corpus.get("bytes")) is not None:
        found.append({"name": "text", "value": size(corpus["bytes"]), "note": f"{count(corpus.get('documents', 0))} documents"})
    if took := total(cards, "seconds"):
        predicted = sum((c.get("forecast") or {}).get("seconds") or 0 for c in cards)
        found.append({"name": "time", "value": seconds(took), "note": f"predicted: {seconds(predicted)}" if predicted else ""})
    checks = [k for c in cards for k in c.get("checks") or ()]
    if checks:
        held = sum(bool(k.get("ok")) for k in checks)
        note = "all hold" if held == len(checks) else f"{len(checks) - held} fail"
        found.append({"name": "checks", "value": count(len(checks)), "note": note, "tone": "" if held == len(checks) else "bad"})
    return found


def _speed(found: Mapping[str, Any]) -> str:
    return f"{si(found['tokens_per_second'])} per second" if real(found.get("tokens_per_second")) else ""


def _model_words(card: Card) -> str:
    found = facts(card)
    size_ = f" with {si(found['parameters'])} parameters" if real(found.get("parameters")) is not None else ""
    return f"a model{size_}" + (f", trained on {si(found['tokens'])} tokens" if real(found.get("tokens")) is not None else "")


def _corpus_words(card: Card) -> str:
    found = facts(card)
    if real(found.get("documents")) is None:
        return ""
    return f"{count(found['documents'])} documents" + (f" ({size(found['bytes'])} of text)" if real(found.get("bytes")) is not None else "")


def _cores(cards: Sequence[Card]) -> int | None:
    found = {(c.get("machine") or {}).get("cores") for c in cards} - {None}
    return found.pop() if len(found) == 1 else None


SECTIONS = (
    ("steps", "Steps", ""), ("data", "Data", "corpora"), ("conversations", "Conversations", "chats"), ("training", "Training", "models"),
    ("scores", "Scores", "results"), ("samples", "Samples", "samples"), ("copies", "Size against quality", "copies"),
    ("layers", "Errors by layer", "layers"), ("chain", "Chain", "chains"), ("checks", "Checks", ""), ("cost", "Cost", ""),
    ("recipe", "Recipe and machine", ""),
)  # fmt: skip


def toc(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Id and name of every section that the page has: those without a value of their own are always there."""
    return [(id_, name) for id_, name, key in SECTIONS if not key or values.get(key)]
