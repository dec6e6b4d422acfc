"""Size against quality: every smaller or other copy of a model, beside what it was made from.

The fact `copy` of a card: label, of (name of its source), bytes, source_bytes, bits_per_weight, nats, source_nats, kl, worst_kl,
agreement, tokens, text, decode_tokens_per_second, source_decode_tokens_per_second, engine, note. Any of them may be missing.
Marks are only comparable on one text: there is a panel for each first source and text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.draw import svg
from bloomery.draw.cards import Card, facts, names, parents, real
from bloomery.draw.numbers import DASH, THIN, count, nearly, number, signed, size
from bloomery.draw.page import markup
from bloomery.draw.scatter import Mark, frontier, scatter

SAME = 0.005  # nats: measurements of one source that lie this near were made on the same tokens
NEAR = 0.0005  # nats: a smaller difference is no better and no worse
ROOM = 0.02  # nats that the chart spans at least
KEEPS = 0.9  # of the next tokens the same: such a copy counts as keeping what its source says
SAME_SIZE = 0.005  # share by which copies of one size may differ
FASTER = 1.05  # times the source's speed: less than this is no speed-up


@dataclass(frozen=True)
class Copy:
    """One copy: where it stands in the lineage, and its fact."""

    address: str
    name: str  # of the artifact
    step: str
    fact: Mapping[str, Any]

    def get(self, field: str) -> float | None:
        return real(self.fact.get(field))

    @property
    def label(self) -> str:
        return str(self.fact.get("label") or self.step)

    @property
    def of(self) -> str:
        return str(self.fact.get("of") or "")

    @property
    def text(self) -> str:
        return str(self.fact.get("text") or "")

    @property
    def change(self) -> float | None:
        """Nats more than the source needs."""
        mine, source = self.get("nats"), self.get("source_nats")
        return None if mine is None or source is None else mine - source

    @property
    def speed(self) -> float | None:
        """Times the source's decoding speed."""
        mine, source = self.get("decode_tokens_per_second"), self.get("source_decode_tokens_per_second")
        return mine / source if mine is not None and source else None


@dataclass(frozen=True)
class Family:
    """The copies of one first source on one text, `parents` by address where a copy's source is itself a copy here."""

    root: str
    members: tuple[Copy, ...]
    parents: Mapping[str, Copy]

    def own(self) -> list[Copy]:
        """Those made from the root itself."""
        return [one for one in self.members if one.address not in self.parents]

    def speed(self, copy: Copy) -> float | None:
        """Its decoding speed, if only from where it was measured as the source of another copy."""
        below = (one.get("source_decode_tokens_per_second") for one in self.members if self.parents.get(one.address) is copy)
        return copy.get("decode_tokens_per_second") or next((v for v in below if v is not None), None)

    def source(self, field: str) -> float | None:
        """A figure of the root, from the first of its own copies that knows it."""
        return next((v for one in self.own() if (v := one.get(field)) is not None), None)

    def way(self, copy: Copy) -> list[Copy]:
        """The copy, the copy that it was made from, and so on to the one made from the root."""
        found, above = [copy], self.parents.get(copy.address)
        while above is not None and above not in found:
            found.append(above)
            above = self.parents.get(above.address)
        return found

    def rise(self, copy: Copy) -> float | None:
        """Nats more than the root needs: its own change, and with it that of every copy on the way."""
        changes = [one.change for one in self.way(copy)]
        return None if None in changes else sum(changes)  # type: ignore[arg-type]

    def agreement(self, copy: Copy) -> float | None:
        """Share of next tokens that are the root's; of a copy of a copy the least that it can be."""
        shares = [one.get("agreement") for one in self.way(copy)]
        if len(shares) == 1 or None in shares:
            return shares[0] if len(shares) == 1 else None
        return 1 - sum(1 - share for share in shares)  # type: ignore[operator]

    def comparable(self) -> bool:
        """Whether nats can be compared as they are: every source was found where another measurement has it."""
        whole = self.source("source_nats")
        pairs = [(one.get("source_nats"), whole) for one in self.own()]
        pairs += [(one.get("source_nats"), self.parents[one.address].get("nats")) for one in self.members if one.address in self.parents]
        return all(a is None or b is None or abs(a - b) <= SAME for a, b in pairs)


def found(cards: Sequence[Card]) -> list[Copy]:
    """Every copy in the lineage, in its order, and with a copy that a search chose the others that it tried (the fact `candidates`).

    One that does not say what it is `of` is of the model that it was made from.
    """
    called, known = names(cards), {c["address"]: str(c.get("name") or "") for c in cards}

    def above(card: Card) -> str:
        given = (card.get("inputs") or {}).get("model")
        return next((known[a] for a in parents({"inputs": {"model": given}}) if a in known), "") if given else ""

    copies = []
    for c in cards:
        if not isinstance(fact := facts(c).get("copy"), Mapping):
            continue
        root = {"of": fact.get("of") or above(c)}
        copies.append(Copy(c["address"], known[c["address"]], called[c["address"]], {**fact, **root}))
        tried = [row for row in facts(c).get("candidates") or () if isinstance(row.get("copy"), Mapping) and not row.get("best")]
        copies += [Copy(row["address"], "", called[c["address"]], {**row["copy"], "label": row["name"], **root}) for row in tried]
    return copies


def families(copies: Sequence[Copy]) -> list[Family]:
    """Copies gathered by first source and text; a copy of a copy on another text begins a family of its own."""
    by_name = {key: one for one in copies for key in (one.name, one.address) if key}

    def parent(one: Copy) -> Copy | None:
        above = by_name.get(one.of)
        return above if above is not None and above.text == one.text and above is not one else None

    groups: dict[tuple[str, str], list[Copy]] = {}
    for one in copies:
        top, passed = one, {one.address}
        while (above := parent(top)) is not None and above.address not in passed:
            passed.add(above.address)
            top = above
        groups.setdefault((top.of, one.text), []).append(one)
    return [
        Family(root, tuple(members), {one.address: above for one in members if (above := parent(one)) is not None})
        for (root, _), members in groups.items()
    ]  # fmt: skip


def panels(cards: Sequence[Card]) -> list[dict[str, Any]]:
    """A chart and a table for each family."""
    called = names(cards)
    steps = {str(c.get("name") or ""): called[c["address"]] for c in cards} | called
    return [_panel(one, steps) for one in families(found(cards))]


def _panel(one: Family, steps: Mapping[str, str]) -> dict[str, Any]:
    root = steps.get(one.root, one.root) or "the source"
    plain, marks = one.comparable(), _marks(one, root)
    front = {m.words for m in frontier(marks, NEAR)} if marks else set()
    members = sorted(one.members, key=lambda c: -(c.get("bytes") or 0))
    rows = [_source_row(one, root), *(_row(c, one, steps, f"{_words(c)}" in front) for c in members)]
    about = [f"measured on {one.members[0].text}" if one.members[0].text else ""]
    tokens = sorted({int(t) for c in one.members if (t := c.get("tokens"))})
    about.append(f"{count(tokens[0])}{f' to {count(tokens[-1])}' if len(tokens) > 1 else ''} predictions" if tokens else "")
    if not plain:
        about.append("the source was not measured on the same ones each time, so changes are drawn, and those of a copy of a copy add up")
    speeds = any(c.get("decode_tokens_per_second") is not None for c in members)
    return {
        "title": f"Copies of {root}", "note": ", ".join(p for p in about if p), "rows": rows, "speeds": speeds,
        "chart": _chart(marks, one, root, plain) if sum(m.tone != "source" for m in marks) > 1 else "",
    }  # fmt: skip


def _marks(one: Family, root: str) -> list[Mark]:
    """The root and its copies as points, those on the frontier as main."""
    plain, points = one.comparable(), []
    weights, nats = one.source("source_bytes"), one.source("source_nats")
    if weights and nats is not None:
        points.append(Mark(root, weights, nats if plain else 0.0, "source", f"{root}: {size(weights)}, {number(nats, 4)} nats"))
    for c in one.members:
        height = c.get("nats") if plain else one.rise(c)
        if c.get("bytes") and height is not None:
            label = c.label if [m.label for m in one.members].count(c.label) == 1 else f"{c.label} ({c.step})"
            points.append(Mark(label, c.get("bytes") or 0.0, height, "other", _words(c)))
    best = {m.words for m in frontier(points, NEAR)}
    return [Mark(m.name, m.x, m.y, "main" if m.tone == "other" and m.words in best else m.tone, m.words) for m in points]


def _words(c: Copy) -> str:
    parts = [
        size(c.get("bytes") or 0), f"{number(c.get('nats') or 0, 4)} nats" if c.get("nats") is not None else "",
        f"{nearly(c.get('agreement') or 0)} the same next token" if c.get("agreement") is not None else "", c.step,
    ]  # fmt: skip
    return f"{c.label}: " + ", ".join(p for p in parts if p)


def _chart(marks: Sequence[Mark], one: Family, root: str, plain: bool) -> Any:
    largest, least = max(m.x for m in marks), min(m.x for m in marks)
    power, unit = next((p, u) for p, u in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "bytes")) if largest >= 2 * p or p == 1)
    scaled = [Mark(m.name, m.x / power, m.y, m.tone, m.words) for m in marks]
    logarithmic = largest / least > 2.5
    nats = one.source("source_nats") if plain else 0.0
    told = any(m.tone == "source" for m in marks)
    level = None if nats is None else ("" if told else root, nats)
    token = "held-out token" if "held-out tokens" in one.members[0].text or "held-out chats" in one.members[0].text else "token"
    name = f"nats per {token}" if plain else f"nats per {token} more than {root}"
    label = "Size against quality: " + "; ".join(m.words for m in marks)

    def draw(width: int) -> str:
        return scatter(
            scaled, label=label, x=f"{unit} of weights{', logarithmic' if logarithmic and width > 500 else ''}",
            y=f"{name}, lower is better",
            log_x=logarithmic, near=NEAR, room=ROOM, level=level, width=width, height=340 if width < 900 else 380,
        )  # fmt: skip

    return markup(svg.fluid(draw, *svg.FULL))


def _source_row(one: Family, root: str) -> dict[str, Any]:
    weights, nats, speed = (one.source(f) for f in ("source_bytes", "source_nats", "source_decode_tokens_per_second"))
    bits = next((b * weights / c.get("bytes") for c in one.own() if weights and (b := c.get("bits_per_weight")) and c.get("bytes")), None)
    return {
        "address": "", "label": root, "about": "the source", "tone": "source", "note": "",
        "size": _told(weights, size), "bits": _told(bits, lambda v: number(v, 3)), "nats": _told(nats, lambda v: number(v, 4)),
        "change": "", "kl": "", "worst": "", "agreement": "", "speed": _told(speed, _rate), "against": "",
    }  # fmt: skip


def _row(c: Copy, one: Family, steps: Mapping[str, str], best: bool) -> dict[str, Any]:
    above = steps.get(c.of, c.of) if c.address in one.parents else ""
    about = [f"{c.step} from {above}" if above else c.step if c.step != c.label else "", str(c.fact.get("engine") or "")]
    worst = c.get("worst_kl")
    return {
        "address": c.address, "label": c.label, "about": " · ".join(p for p in about if p),
        "tone": "main" if best else "other", "note": str(c.fact.get("note") or ""),
        "size": _told(c.get("bytes"), size), "bits": _told(c.get("bits_per_weight"), lambda v: number(v, 3)),
        "nats": _told(c.get("nats"), lambda v: number(v, 4)), "change": DASH if c.change is None else signed(c.change),
        "kl": _told(c.get("kl"), lambda v: number(v, 2)), "worst": f"worst {number(worst, 2)}" if worst is not None else "",
        "agreement": _told(c.get("agreement"), nearly), "speed": _told(one.speed(c), _rate),
        "against": _faster(c.speed),
    }  # fmt: skip


def _told(value: float | None, words: Any) -> str:
    return DASH if value is None else words(value)


def _rate(speed: float) -> str:
    return count(speed) if speed >= 100 else number(speed, 3)


def _faster(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return f"{number(ratio, 2)}{THIN}×" + ("" if ratio >= FASTER else ": no speed-up here")


def smallest(cards: Sequence[Card]) -> tuple[Copy, float | None, float] | None:
    """The smallest copy that still says what its first source says, of equally small ones the nearest; how many times smaller it is, and
    the share of tokens alike."""
    best: tuple[Copy, float | None, float] | None = None
    for family in families(found(cards)):
        whole = family.source("source_bytes")
        for one in family.members:
            weights, agreement = one.get("bytes"), family.agreement(one)
            if not weights or agreement is None or agreement < KEEPS or (whole is not None and weights >= 0.95 * whole):
                continue
            least = best[0].get("bytes") or 0 if best else 0
            same = abs(weights - least) <= SAME_SIZE * least  # codes of one kind differ by the names in the file's head
            if best is None or (agreement > best[2] if same else weights < least):
                best = (one, whole / weights if whole else None, agreement)
    return best
