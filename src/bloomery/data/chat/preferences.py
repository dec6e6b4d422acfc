"""Judged answers, which alignment learns from: pairs of a chosen and a rejected one, or single ones that are wanted or not (KTO)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.chat.read import about, chat_files, rows_of
from bloomery.data.chat.rows import PREFERENCES, Turn, Unfit, demand_asked, said

Messages = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Preference:
    """Two answers to one question, as (role, content) pairs; `prompt` ends before the answers begin."""

    id: str
    prompt: Messages
    chosen: Messages
    rejected: Messages
    package: str = ""
    path: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Judged:
    """One answer to a question and whether it is wanted."""

    id: str
    prompt: Messages
    completion: Messages
    label: bool
    package: str = ""
    path: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Preferences:
    """All rows of some files, which are of one kind; `dropped` counts rows left out by reason."""

    format: str  # preference or kto
    rows: list[Preference] | list[Judged]
    dropped: dict[str, int] = field(default_factory=dict)


def read_preferences(path: str | Path) -> Preferences:
    """The pairs or judged answers of a .jsonl (plain, .gz, .zst), .json or .parquet file, or of all such files in a folder.

    The format is found by looking at each row: chosen and rejected (texts, or messages, which may hold the prompt as their common
    begin), or prompt, completion and a label that is true or false. Raises BadInput where no row is either, or where there are both.
    """
    path = Path(path).expanduser()
    found: dict[str, list[Any]] = {name: [] for name in PREFERENCES}
    dropped: Counter[str] = Counter()
    for place, row in _rows(path):
        try:
            format = judged_format(row)
            found[format].append((_pair if format == "preference" else _judged)(row, place))
        except Unfit as why:
            dropped[str(why)] += 1
    kinds = [name for name, rows in found.items() if rows]
    if len(kinds) > 1:
        counts = " and ".join(f"{len(found[name])} of {PREFERENCES[name]}" for name in kinds)
        raise BadInput(f"{path} holds rows {counts}; give files of one kind")
    if not kinds:
        why = max(dropped, key=lambda reason: dropped[reason]) if dropped else "it is empty"
        known = "; ".join(PREFERENCES.values())
        raise BadInput(f"{path}: none of its {sum(dropped.values())} rows is a judged answer ({why}); the known formats are {known}")
    return Preferences(kinds[0], found[kinds[0]], dict(dropped))


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    for file in chat_files(path):
        yield from rows_of(file, file.relative_to(path).as_posix() if path.is_dir() else file.name)


def judged_format(row: Any) -> str:
    """preference or kto, by a row's columns; a column without a value does not count. Raises Unfit."""
    if isinstance(row, Unfit):
        raise row
    if not isinstance(row, Mapping):
        raise Unfit("not an object")
    names = {name for name, value in row.items() if value is not None}
    if {"chosen", "rejected"} <= names:
        return "preference"
    if {"prompt", "completion", "label"} <= names:
        return "kto"
    raise Unfit("none of the known formats")


def _pair(row: Mapping[str, Any], place: str) -> Preference:
    chosen, rejected = (said(row[name], "assistant") for name in ("chosen", "rejected"))
    if row.get("prompt") is not None:
        prompt = said(row["prompt"], "user")
        chosen, rejected = (_after(prompt, answer) for answer in (chosen, rejected))
    elif isinstance(row["chosen"], list) and isinstance(row["rejected"], list):
        shared = _shared(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    else:
        raise Unfit("no prompt")
    if chosen == rejected:
        raise Unfit("chosen and rejected are the same")
    for answer in (chosen, rejected):
        _demand(prompt, answer)
    known = about(row, place, [prompt, chosen, rejected])
    return Preference(prompt=_plain(prompt), chosen=_plain(chosen), rejected=_plain(rejected), **_kept(known))


def _judged(row: Mapping[str, Any], place: str) -> Judged:
    if not isinstance(row["label"], bool):
        raise Unfit("a label that is neither true nor false")
    prompt = said(row["prompt"], "user")
    answer = _after(prompt, said(row["completion"], "assistant"))
    _demand(prompt, answer)
    known = about(row, place, [prompt, answer, row["label"]])
    return Judged(prompt=_plain(prompt), completion=_plain(answer), label=row["label"], **_kept(known))


def _after(prompt: list[Turn], answer: list[Turn]) -> list[Turn]:
    """An answer without the prompt, which some data sets repeat before it."""
    return answer[len(prompt) :] if answer[: len(prompt)] == prompt else answer


def _shared(chosen: list[Turn], rejected: list[Turn]) -> int:
    """Messages that both begin with, up to the last that is no answer."""
    count = next((k for k, (a, b) in enumerate(zip(chosen, rejected)) if a != b), min(len(chosen), len(rejected)))
    while count and chosen[count - 1].role == "assistant":
        count -= 1
    return count


def _demand(prompt: list[Turn], answer: list[Turn]) -> None:
    """Raise Unfit for what is no question with its answer, or needs tools, which no alignment is given here."""
    if not answer or answer[-1].role != "assistant":
        raise Unfit("no answer")
    if answer[0].role not in ("assistant", "tool"):
        raise Unfit("an answer that begins with a question")
    if any(turn.more for turn in (*prompt, *answer)):
        raise Unfit("tool calls")
    demand_asked([*prompt, *answer])


def _plain(given: list[Turn]) -> Messages:
    return tuple((turn.role, turn.content) for turn in given)


def _kept(known: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in known.items() if name != "plain"}
