"""`bloomery decontaminate`: evaluation items looked for in a corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bloomery.cli import options

if TYPE_CHECKING:
    from bloomery.lab.decontaminate import Found

NAME = "decontaminate"
Corpus = Annotated[list[str], typer.Argument(help="Files, folders, patterns, or @NAME of a corpus in the store.", show_default=False)]
Against = Annotated[
    list[str],
    typer.Option(
        help="What must not stand in it: a recipe that evaluates, files or folders of items, YAML tasks of lm-eval, or a task that makes "
        "its own items. Several: give the option again."
    ),
]


def command(
    corpus: Corpus,
    against: Against = [],  # noqa: B006 - typer copies it
    words: Annotated[int, typer.Option(help="Words per run; parts of items with fewer are not looked for.")] = 8,
    share: Annotated[float, typer.Option(help="Share of a part's runs that a document must hold.")] = 0.5,
    near: Annotated[float, typer.Option(help="Share of a part's runs of five words in one passage, for near copies; 0: none.")] = 0.4,
    common: Annotated[int, typer.Option(help="A run that more parts of items than this share is not counted.")] = 10,
    question: Annotated[str, typer.Option(help="Column of the question, in files of items.")] = "",
    answer: Annotated[str, typer.Option(help="Column of the answer, in files of items.")] = "",
    text: Annotated[str, typer.Option(help="Column of the text, in files of documents.")] = "text",
    write: Annotated[Path | None, typer.Option(help="Write the documents that hold no item to this new folder, as Parquet.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the matches side by side.")] = None,
    show: Annotated[int, typer.Option(min=0, max=60, help="Matches shown side by side here.")] = 10,
    strict: Annotated[bool, typer.Option(help="Exit with 1 where a document holds an item and no cleaned corpus is written.")] = False,
    seed: Annotated[int, typer.Option(help="Under which tasks draw their own items.")] = 0,
    store: options.Store = options.STORE,
    quiet: Annotated[bool, typer.Option(help="Print the results only.")] = False,
    as_json: options.Json = False,
) -> None:
    """Find evaluation items in a corpus, whole, in part or nearly, and write the corpus without them.

    The corpus is read once, a few megabytes at a time. With --json every match is a line, and the last line is the summary.
    """
    from bloomery.cli.tables import show_json
    from bloomery.core.errors import BadInput, CheckFailed
    from bloomery.core.log import Log
    from bloomery.core.machine import threads
    from bloomery.core.signals import Signals
    from bloomery.data.contamination import Rules
    from bloomery.lab.corpora import parts_of
    from bloomery.lab.decontaminate import search
    from bloomery.lab.exams import gathered

    try:
        rules = Rules(words, share, near, common)
    except ValueError as wrong:
        raise BadInput(f"--words, --share, --near or --common: {wrong}") from None
    options.writable(html)
    parts = parts_of(corpus, store, text)
    exams = gathered(against, question, answer, seed, store)
    told = (lambda match: show_json([match])) if as_json else None
    with Signals().listening(), Log(quiet=quiet).progress("documents", unit="documents") as bar:
        found = search(exams, rules, parts, write, told, threads(), bar)
    if html:
        write_page(found, html)
    if as_json:
        show_json([{"summary": found.summary()}])
    else:
        show_found(found, show, html)
    if strict and found.leaking and not write:
        said = f"{found.leaking:,} of {found.documents:,} documents hold an evaluation item"
        raise CheckFailed(f"{said}; --write makes a corpus without them")


def show_found(found: Found, show: int, html: Path | None) -> None:
    """Matches side by side, a row for each evaluation set, and the sums."""
    from bloomery.cli.tables import show_table
    from bloomery.draw.numbers import count, size

    for match in found.shown[:show]:
        show_match(match)
    columns = ("evaluation set", "items", "looked for", "too short", "nothing of their own", "found")
    names = ("items", "looked_for", "too_short", "nothing_of_their_own", "found")
    show_table(columns, [(name, *(count(one[key]) for key in names)) for name, one in found.sets.items()], right=columns[1:])
    more = f"; {count(found.matches - show)} further matches are in --json" if found.matches > show else ""
    held = f"{count(found.leaking)} of {count(found.documents)} documents ({size(found.bytes)}) hold an item"
    print(f"\n{held}, {count(found.matches)} matches{more}")
    for sentence in found.left_out:
        print(f"not looked for: {sentence}")
    if found.unread:
        print("not read: " + ", ".join(f"{n:,} {reason}" for reason, n in found.unread.items()))
    for path in filter(None, (found.written, html)):
        print(path)


def show_match(match: Mapping[str, Any]) -> None:
    """Item and passage beside each other; words that the other side lacks stand bold, or in brackets off a terminal."""
    import sys

    from rich.console import Console
    from rich.table import Table

    from bloomery.draw.sides import aligned, how

    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    place = match["path"] or match["document"]
    console.print(f"{match['set']}: {match['item']} in {match['corpus']}: {place} ({how(match)})", style="bold", markup=False)
    table = Table(box=None, pad_edge=False, expand=True, show_header=False)
    table.add_column(ratio=1, overflow="fold")
    table.add_column(ratio=1, overflow="fold")
    table.add_row(*(marked(side, sys.stdout.isatty()) for side in aligned(match["item_text"], match["document_text"])))
    console.print(table)
    console.print()


def marked(pieces: Sequence[tuple[str, bool]], terminal: bool) -> Any:
    """A side as rich prints it."""
    from rich.text import Text

    made = Text()
    for text, same in pieces:
        if same or terminal or not any(map(str.isalnum, text)):
            made.append(text, style="" if same else "bold red" if terminal else "")
        else:
            bare = text.strip()
            made.append(text.replace(bare, f"[{bare}]", 1))
    return made


def write_page(found: Found, to: Path) -> None:
    """The same as a page of its own."""
    from bloomery.draw import page
    from bloomery.draw.sides import contamination

    values = contamination(found.summary(), found.shown)
    to.write_text(page.render(page.CONTAMINATION, title="Evaluation items in a corpus", **values), encoding="utf-8")
