"""Personal data and secrets in text: e-mail and IP addresses, telephone and card numbers, keys.

Every pattern is linear: candidates are found by one mark or a bounded run of digits, and looked at within a bounded distance.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

KINDS = ("email", "ip", "phone", "card", "key")
Found = tuple[int, int, str]  # start, stop, kind

_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&'*+/=?^_`{|}~-")
_HOST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
_DIGITS = re.compile(r"\+?[(0-9][0-9().\- ]{6,28}[0-9]")  # bounded, so at most some thirty steps from any place
_QUAD = re.compile(r"(?<![0-9.])([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})(?![0-9]|\.[0-9])")
_SIX = re.compile(r"(?<![0-9A-Za-z:])(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}(?![0-9A-Za-z:])")
_KEYS = re.compile(
    r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[0-9A-Za-z]{36}|sk-[0-9A-Za-z_-]{32,64}|xox[abprs]-[0-9A-Za-z-]{10,60}|AIza[0-9A-Za-z_-]{35}"
    r"|eyJ[0-9A-Za-z_-]{10,400}\.eyJ[0-9A-Za-z_-]{10,400}\.[0-9A-Za-z_-]{10,400})(?![0-9A-Za-z])"
)
_BEGIN, _END = re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----"), re.compile(r"-----END [A-Z ]{0,40}PRIVATE KEY-----")


def find(text: str, kinds: tuple[str, ...] = KINDS) -> list[Found]:
    """Places in their order, none within another: of two that overlap, the one that begins first, then the longer."""
    found: list[Found] = []
    if "key" in kinds:
        found += [(one.start(), one.end(), "key") for one in _KEYS.finditer(text)]
        found += _blocks(text)
    if "email" in kinds:
        found += _emails(text)
    if "ip" in kinds:
        found += [(one.start(), one.end(), "ip") for one in _QUAD.finditer(text) if all(int(part) < 256 for part in one.groups())]
        found += [(one.start(), one.end(), "ip") for one in _SIX.finditer(text)]
    if "phone" in kinds or "card" in kinds:
        found += [one for one in _numbers(text) if one[2] in kinds]
    found.sort(key=lambda one: (one[0], -one[1]))
    kept: list[Found] = []
    for one in found:
        if not kept or one[0] >= kept[-1][1]:
            kept.append(one)
    return kept


def _blocks(text: str) -> Iterator[Found]:
    """Private keys between their BEGIN and END lines."""
    at = 0
    while begin := _BEGIN.search(text, at):
        end = _END.search(text, begin.end())
        at = end.end() if end else begin.end()
        yield begin.start(), at, "key"
        if not end:
            return


def _emails(text: str) -> Iterator[Found]:
    """Around every @: at most 64 characters of a name, at most 253 of a host with a dot and a top-level domain of letters."""
    at = text.find("@")
    while at >= 0:
        start, stop = at, at + 1
        while start > 0 and at - start < 64 and text[start - 1] in _LOCAL:
            start -= 1
        while start < at and text[start] in ".'`{|*/=":
            start += 1
        while stop < len(text) and stop - at < 254 and text[stop] in _HOST:
            stop += 1
        while stop > at and text[stop - 1] in ".-":
            stop -= 1
        labels = text[at + 1 : stop].split(".")
        if start < at and text[at - 1] != "." and len(labels) > 1 and all(labels) and labels[-1].isalpha() and len(labels[-1]) > 1:
            yield start, stop, "email"
        at = text.find("@", at + 1)


def _numbers(text: str) -> Iterator[Found]:
    """Card numbers that hold Luhn's check; telephone numbers with a + or in groups, of 8 to 15 digits, that are no date or decimal."""
    for one in _DIGITS.finditer(text):
        start, stop = one.span()
        before, after = text[start - 1 : start], text[stop : stop + 1]
        if before.isalnum() or before in (".", "-", "_", "/") or after.isalnum() or after in ("_", "/"):
            continue
        piece = one.group()
        digits = "".join(c for c in piece if c in "0123456789")
        groups = [part for part in re.split(r"[^0-9]+", piece) if part]
        if 13 <= len(digits) <= 19 and not piece.startswith("+") and "." not in piece and luhn(digits) and len(set(digits)) > 1:
            yield start, stop, "card"
        elif 8 <= len(digits) <= 15 and (piece.startswith("+") or _grouped(piece, groups)):
            yield start, stop, "phone"


def _grouped(piece: str, groups: list[str]) -> bool:
    """Whether digits stand in groups as telephone numbers do: 555-123-4567, (555) 123-4567, 030 1234 5678."""
    if len(groups) < 3 or any(len(group) > 5 for group in groups) or len(groups[-1]) < 3 or "  " in piece:
        return False
    if len(groups) == 3 and len(groups[0]) == 4 and int(groups[1]) < 13 and len(groups[2]) < 3:
        return False  # a date
    marks = {c for c in piece if not c.isdigit()}
    return sum(map(len, groups)) >= 10 and (piece[0] in "(0" or marks in ({"-"}, {"."})) and len(marks - {" "}) <= 3


def luhn(digits: str) -> bool:
    """Luhn's check of a string of digits: every second digit from the right, doubled, counts by its digits."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0
