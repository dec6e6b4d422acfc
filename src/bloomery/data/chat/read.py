"""Conversations from files in the formats that people have, and the Parquet form in which the "chats" artifact holds them."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.data.chat.rows import FORMATS, PREFERENCES, Unfit, conversation, format_of, tools_of
from bloomery.data.documents import identify
from bloomery.data.read import files
from bloomery.data.read.rows import records

ENDINGS = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".jsonl.zst", ".ndjson.gz", ".ndjson.zst", ".parquet")
ABOUT = ("id", "package", "path", "kind", "plain")
HELD_OUT = ("heldout", "held_out", "validation", "valid", "val", "test", "dev", "eval")
BESIDES = ("card.json", "counts.json", "funnel.json", "dataset_infos.json", "dataset_info.json")
LONGEST = 1 << 26  # bytes of a line: one conversation
EXAMPLES = 3  # places kept for each reason


@dataclass(frozen=True)
class Conversation:
    """What was said: (role, content) pairs that end with an answer; `plain` is the question as ordinary text, where there is one.

    Where tools are used, `tools` is the JSON list of those on offer in OpenAI's form, and `more` has an entry for each message: "" or a
    JSON object of its tool_calls (arguments as an object), or of a result's tool_call_id and name.
    """

    id: str
    messages: tuple[tuple[str, str], ...]
    package: str = ""  # conversations of one package are not independent
    path: str = ""
    kind: str = ""
    plain: str = ""
    tools: str = ""
    more: tuple[str, ...] = ()

    @property
    def told(self) -> list[dict[str, Any]]:
        """The messages as chat templates take them."""
        more = self.more or ("",) * len(self.messages)
        pairs = zip(self.messages, more, strict=True)
        return [{"role": role, "content": content, **(json.loads(extra) if extra else {})} for (role, content), extra in pairs]


@dataclass(frozen=True)
class Chats:
    """All conversations of some files. `dropped` counts the rows left out by reason, `examples` are the places of the first of them."""

    format: str  # one of FORMATS, or several with their counts
    conversations: list[Conversation]
    dropped: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)  # conversations of each format
    examples: dict[str, tuple[str, ...]] = field(default_factory=dict)


def read_chats(path: str | Path) -> Chats:
    """The conversations of a .jsonl (plain, .gz, .zst), .json or .parquet file, or of all such files in a folder.

    The format is found by looking at each row. Roles: system (developer), user (human), assistant (gpt), tool (function); what
    follows the last answer is left out. Raises BadInput where a file is damaged, where none of its rows is a conversation, or where
    a folder holds training and held-out files, which must not be mixed.
    """
    path = Path(path).expanduser()
    found: list[Conversation] = []
    formats: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for file in chat_files(path):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        rows, fit, columns = 0, 0, {}
        for place, row in rows_of(file, name):
            rows += 1
            try:
                made, format = _conversation(row, place, file)
                columns |= dict.fromkeys(row)
                formats[format] += 1
                found.append(made)
                fit += 1
            except Unfit as why:
                columns |= dict.fromkeys(row) if isinstance(row, Mapping) else {}
                dropped[str(why)] += 1
                if len(places := examples.setdefault(str(why), [])) < EXAMPLES:
                    places.append(place)
        if rows and not fit:
            raise BadInput(_no_row_fits(file, rows, columns, dropped))
    seen: Counter[str] = Counter()
    for i, one in enumerate(found):
        seen[one.id] += 1
        if seen[one.id] > 1:  # rows of several files often count from 0 in each
            found[i] = replace(one, id=f"{one.id}#{seen[one.id]}")
    return Chats(_stated(formats), found, dict(dropped), dict(formats), {why: tuple(places) for why, places in examples.items()})


def _no_row_fits(file: Path, rows: int, columns: Mapping[str, None], dropped: Mapping[str, int]) -> str:
    known = "; ".join(FORMATS.values())
    format = format_of(dict.fromkeys(columns, ()))
    if format in PREFERENCES:
        what = f"{'preference pairs' if format == 'preference' else 'judged answers'} ({PREFERENCES[format]})"
        return f"{file} holds {what}, which are for alignment, not conversations to imitate; give one of {known}"
    if format:
        why = max(dropped, key=lambda reason: dropped[reason])
        return f"{file}: none of its {rows} rows is a conversation, most of them for: {why}; the known formats are {known}"
    return f"{file}: its columns are {', '.join(columns) or 'none'}; the known formats are {known}; rename the columns"


def _stated(formats: Mapping[str, int]) -> str:
    """The format in words: its name, or all names with their counts."""
    if len(formats) > 1:
        return ", ".join(f"{name} ({formats[name]})" for name in FORMATS if name in formats)
    return next(iter(formats), "messages")


def about(row: Mapping[str, Any], place: str, content: Any) -> dict[str, str]:
    """id, package, path and kind of a row, from its columns or from its place and content."""
    found = {name: str(row[name]) for name in ABOUT if isinstance(row.get(name), str | int) and not isinstance(row[name], bool)}
    found.setdefault("path", place)
    if not found.get("id"):
        found["id"] = identify("chats", place, json.dumps(content).encode())
    return found


def _conversation(row: Any, place: str, file: Path) -> tuple[Conversation, str]:
    """A row as a conversation and its format. Raises Unfit."""
    if isinstance(row, Unfit):
        raise row
    if not isinstance(row, Mapping):
        raise Unfit("not an object")
    format = format_of(row)
    if not format:
        raise Unfit("none of the known formats")
    turns, plain = conversation(_joined(row), format)
    messages = tuple((turn.role, turn.content) for turn in turns)
    known = about(row, place, turns if any(turn.more for turn in turns) else messages)
    known.setdefault("plain", plain)
    more = tuple(turn.more for turn in turns) if any(turn.more for turn in turns) else ()
    return Conversation(messages=messages, **known, tools=tools_of(row), more=more), format


def _joined(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row that write_chats wrote, with what its column `more` says put back into its messages."""
    messages, more = row.get("messages"), row.get("more")
    if not (isinstance(messages, list) and isinstance(more, list) and len(more) == len(messages)):
        return row
    try:
        return {**row, "messages": [{**one, **(json.loads(extra) if extra else {})} for one, extra in zip(messages, more, strict=True)]}
    except (ValueError, TypeError):
        return row


def chat_files(path: Path) -> list[Path]:
    """The files to read, by name. Raises BadInput where there are none, or where training and held-out files lie together."""
    if path.is_file():
        if not path.name.lower().endswith(ENDINGS):
            raise BadInput(f"{path}: conversations are read from files that end in {', '.join(ENDINGS)}; rename or convert it")
        return [path]
    if not path.is_dir():
        raise BadInput(f"{path} does not exist; give a file of conversations or a folder of such files")
    found = sorted(file for file in path.rglob("*") if file.is_file() and file.name.lower().endswith(ENDINGS) and file.name not in BESIDES)
    if not found:
        raise BadInput(f"{path} holds no file that ends in {', '.join(ENDINGS)}; give one with conversations")
    held = [file for file in found if _held_out(file.relative_to(path))]
    if held and len(held) < len(found):
        first = held[0].relative_to(path)
        raise BadInput(f"{path} holds {first} beside files to train on, which must not be mixed; name one file, or move {first} away")
    return found


def _held_out(file: Path) -> bool:
    """Whether a file's name, or a folder's on its way, says that it is held out."""
    return any(word in HELD_OUT for part in file.parts for word in part.lower().replace(".", "-").split("-")[:1])


# ---- rows of files ------------------------------------------------------------------------------------------------------


def rows_of(file: Path, name: str) -> Iterator[tuple[str, Any]]:
    """(place, row) of every row; a row that cannot be read comes as Unfit."""
    if file.suffix == ".parquet":
        yield from _parquet_rows(file, name)
        return
    head = files.head_of(str(file)).removeprefix(codecs.BOM_UTF8).lstrip()
    if head.startswith(b"["):
        with files.open_bytes(str(file)) as handle:
            data = handle.read()
        try:
            for number, row in enumerate(json.loads(data.decode("utf-8-sig")), 1):
                yield f"{name}:{number}", row
        except (ValueError, RecursionError) as error:
            raise BadInput(f"{file} is no JSON ({error}); write or fetch it again") from None
        return
    with files.open_bytes(str(file)) as handle:
        for number, (line, length) in enumerate(files.lines(handle, LONGEST), 1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if line.strip():
                yield f"{name}:{number}", Unfit("a line too long") if length > LONGEST else _line(line)


def _line(line: bytes) -> Any:
    try:
        return json.loads(line.decode())
    except UnicodeDecodeError:
        return Unfit("not UTF-8")
    except (ValueError, RecursionError):
        return Unfit("not JSON")


def _parquet_rows(file: Path, name: str) -> Iterator[tuple[str, Any]]:
    import pyarrow.parquet as pq

    files.head_of(str(file))
    number = 0
    with files.sound(str(file), "Parquet"), pq.ParquetFile(file) as opened:
        if not opened.metadata.num_rows and not format_of(dict.fromkeys(opened.schema_arrow.names, ())):
            raise BadInput(f"{file} has no rows; give a file with conversations")
        for batch in opened.iter_batches(batch_size=256):
            for row in records(batch):
                number += 1
                yield f"{name}:{number}", Unfit("not UTF-8") if isinstance(row, Exception) else row


# ---- the artifact's form ------------------------------------------------------------------------------------------------


def write_chats(path: str | Path, conversations: Iterable[Conversation]) -> None:
    """Conversations as Parquet: id, package, path, kind, plain (text), messages (a list of structs of role and content); where one
    uses tools also tools (text) and more (a list of text)."""
    import pyarrow as pa

    from bloomery.data.tables import write_table

    kept = list(conversations)
    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    columns = {name: pa.array([getattr(one, name) for one in kept], pa.string()) for name in ABOUT}
    said = [[{"role": role, "content": content} for role, content in one.messages] for one in kept]
    columns["messages"] = pa.array(said, pa.list_(turn))
    if any(one.tools or one.more for one in kept):
        columns["tools"] = pa.array([one.tools for one in kept], pa.string())
        columns["more"] = pa.array([list(one.more) for one in kept], pa.list_(pa.string()))
    write_table(pa.table(columns), path)
