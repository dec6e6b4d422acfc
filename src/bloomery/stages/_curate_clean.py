"""Parts of curate: passages that stand in the corpus before are cut out, and documents that hold evaluation items are dropped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput
from bloomery.core.machine import release, threads
from bloomery.seams import Rng, Source
from bloomery.tools.needs import needing

if TYPE_CHECKING:
    from pathlib import Path

    from bloomery.core.job import Job
    from bloomery.core.log import Log
    from bloomery.data.chunks import Chunks
    from bloomery.data.funnel import Funnel
    from bloomery.data.overlap import Items
    from bloomery.stages.curate import Curate

AGAIN = -1  # in the place of a source's number: texts that are measured again
LONGEST = 1 << 30  # bytes of an evaluation item


def cut(stage: Curate, funnel: Funnel, chunks: Chunks, job: Job) -> None:
    """Cut from the rows that are left what stands in an earlier one; a row of which nothing is left is dropped."""
    import numpy as np

    from bloomery.data.chunks import STORED
    from bloomery.data.cutting import Cuts, cut_texts
    from bloomery.data.passages import repeated_passages

    rows, length = funnel.rows, stage.substring
    fetch = lambda part: chunks.text_column(rows[part])  # noqa: E731
    found = repeated_passages(fetch, funnel.sizes[rows], length, stage.room(len(funnel.sizes)), job.work, threads(), job.log)
    release()
    found[:, 0], found[:, 3] = rows[found[:, 0]], rows[found[:, 3]]
    changed, first = np.unique(found[:, 0], return_index=True)
    (folder := job.work / "cut").mkdir(exist_ok=True)
    sizes, files = cut_texts(chunks.parts(changed, STORED), found, folder)
    release()
    empty, left = changed[sizes == 0], changed[sizes > 0]
    note = f"nothing but passages of {length} tokens or more that stand elsewhere before"
    funnel.drop_copies("repeated throughout", empty, found[first[sizes == 0], 3], note, "first of")
    note = f"cut from {len(left)} documents: {length} tokens or more that stand in an earlier document, or earlier in the same one"
    funnel.shrink("repeated passages", left, sizes[sizes > 0], note)
    if len(left):
        chunks.forget()
        release()
        values = _measured_again(stage, [path for path, _ in files], job)
        chunks.cuts = Cuts(left, sizes[sizes > 0], files, {column: path for columns, path in values.values() for column in columns})
        _failed_again(funnel, left, {name: path for name, (_, path) in values.items()})


def _measured_again(stage: Curate, files: Sequence[Path], job: Job) -> dict[str, tuple[list[str], Path]]:
    """The columns of each signal that asks no model, and the file that has them for the texts of some files, measured by all workers."""
    from bloomery.data.annotate import Chunk, Deaths, Work, annotate
    from bloomery.data.cutting import join_values
    from bloomery.data.measured import Measured, columns_of

    makers = [Measured(name, signal) for name, signal in stage.named("signals") if not needing(signal)]
    if not makers:
        return {}
    folders = [(job.work / "cut" / maker.name).resolve() for maker in makers]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    places = tuple((str(folder), maker) for folder, maker in zip(folders, makers, strict=True))
    work = Work(str(job.work.resolve()), AGAIN, columns=places)
    chunks = (Chunk(work, number, files=(str(path.resolve()),)) for number, path in enumerate(files))
    with job.log.progress("measuring what is left of cut documents", total=len(files), unit="files") as bar:
        for _ in job.executor.map(annotate, chunks, label="measuring", crashed=Deaths(job.log.say), workers=stage.workers(job)):
            bar.advance(1)
    columns, found = columns_of(stage.named("signals")), {}
    for maker, folder in zip(makers, folders, strict=True):
        found[maker.name] = columns[maker.name], folder / "values.parquet"
        join_values([folder / path.name for path in files], folder / "values.parquet")
    return found


def _failed_again(funnel: Funnel, rows: Any, values: Mapping[str, Path]) -> None:
    """Drop what a signal fails on now that it was cut."""
    import numpy as np

    from bloomery.data.measured import FAILED
    from bloomery.data.tables import read_table

    for name, path in values.items():
        column = read_table(path, [FAILED]).column(FAILED)
        failed = {int(rows[k]): column[int(k)].as_py() for k in np.flatnonzero(column.is_valid().to_numpy())}
        if failed := {row: note for row, note in failed.items() if not funnel.codes[row]}:
            funnel.drop(f"{name} failed", failed)


def evaluation_items(sets: Sequence[Any], length: int, seed: int) -> Items:
    """The items of all sets: addresses as in `sources`, or tasks. BadInput where one is empty, unreadable or unknown."""
    from pathlib import Path

    from bloomery.core import catalog
    from bloomery.data.overlap import Items

    found: dict[str, list[tuple[str, str]]] = {}
    tasks = catalog.entries("task")
    for given in sets:
        (name, *more) = given if isinstance(given, dict) else (given,)
        if not more and isinstance(name, str) and name in tasks and not Path(name).exists():
            found[name] = [(f"{name}: {item.id}", f"{item.prompt}\n{item.target}") for item in _drawn(name, given, seed)]
        else:
            name = str(given.get("from", given)) if isinstance(given, dict) else str(given)
            found.setdefault(name, []).extend(_read(given))
    return Items.of(found, length)


def _read(address: Any) -> list[tuple[str, str]]:
    """Place and text of each item at an address. BadInput in the name of this knob if unreadable."""
    from bloomery.data import sources
    from bloomery.data.documents import Broken

    found = []
    try:
        opened = sources.open_sources([address])
        sources.check(opened)
        for task in sources.tasks(opened, LONGEST):
            for item in sources.read(task):
                if isinstance(item, Broken):
                    raise BadInput(f"decontaminate: {item.path} cannot be read ({item.reason}: {item.note}); mend the file")
                found.append((item.meta["path"], item.text))
    except BadInput as wrong:
        raise BadInput(str(wrong).replace("sources:", "decontaminate:", 1)) from None
    return found


def _drawn(name: str, given: Any, seed: int) -> list[Any]:
    """The items that evaluate draws for a task under this seed, where the task has items of its own."""
    from bloomery.core import catalog

    task = catalog.build_method("task", given, "decontaminate")
    try:
        items = list(task.items(Source(), Rng((seed, "evaluate")).child("items", name)))
    except (AttributeError, TypeError):  # it asks for a model's tokenizer
        items = []
    if not items:
        raise BadInput(
            f"decontaminate: the task {name} makes its items from held-out documents or conversations, which `guard` keeps apart; "
            "name a task with items of its own, such as programs, or a file"
        )
    return items


def decontaminate(funnel: Funnel, chunks: Chunks, items: Items, share: float, log: Log) -> None:
    """Drop the documents that hold an evaluation item, or `share` of one."""
    import numpy as np

    from bloomery.data.overlap import leaks
    from bloomery.data.streamed import told

    rows = funnel.rows
    with log.progress("looking for evaluation items", total=len(rows), unit="documents") as bar:
        best, which = leaks(items, told((part.column("text") for part in chunks.parts(rows, ["text"])), bar), threads())
    hit = np.flatnonzero(leaking(best, share))
    notes = {int(rows[k]): f"{best[k]:.2f} of {items.names[which[k]]}" for k in hit}
    what = f"{share:g} or more of an item's runs of {items.length} words" if share else f"a run of {items.length} words of an item"
    short = f"; {items.short} shorter items were not looked for" if items.short else ""
    funnel.drop("in an evaluation set", notes, f"{what}, of {len(items.names)} items{short}")


def leaking(best: Any, share: float) -> Any:
    """Which of the largest shares make a leak."""
    return (best >= share) & (best > 0)


def leaked(items: Items, texts: Iterable[Sequence[str]], share: float) -> int:
    """How many of some texts hold an evaluation item."""
    from bloomery.data.overlap import leaks

    return int(leaking(leaks(items, texts, threads())[0], share).sum())
