"""One worker of benchmarks/corpus.py, run by the Python of whoever is timed: reads texts, says ready, waits for a line, filters, tells.

python filter_worker.py CONTESTANT TEXTS.jsonl: one JSON line {"seconds", "cpu", "peak", "verdicts"}; a verdict is the first reason to
drop, or "".
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "contenders"))
from turns import memory

Verdicts = Callable[[list[str]], list[list[str]]]
BATCH = 16_000_000  # characters


def datatrove() -> Verdicts:
    """Four filters of datatrove, each on every document as it came; one that raises drops it, as its executor would stop there."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter, FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    filters = [GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(), FineWebQualityFilter()]

    def verdict(one: object, text: str) -> str:
        try:
            kept = one.filter(Document(text=text, id=""))
        except (ZeroDivisionError, AssertionError) as wrong:
            return type(wrong).__name__
        return "" if kept is True else kept[1]

    return lambda texts: [[verdict(one, text) for one in filters] for text in texts]


def data_juicer() -> Verdicts:
    """Eight text filters of Data-Juicer at their defaults, each on every document, one batch of documents after the other."""
    from importlib import import_module

    names = ("alphanumeric", "average_line_length", "character_repetition", "maximum_line_length", "special_characters", "text_length",
             "word_repetition", "words_num")  # fmt: skip
    filters = []
    for name in names:
        module = import_module(f"data_juicer.ops.filter.{name}_filter")
        filters.append((name, getattr(module, "".join(part.title() for part in name.split("_")) + "Filter")()))

    def verdicts(texts: list[str]) -> list[list[str]]:
        found = [""] * len(texts)
        for at in range(0, len(texts), 1000):
            some = {"text": texts[at : at + 1000], "__dj__stats__": [{} for _ in texts[at : at + 1000]]}
            for name, one in filters:
                some = one.compute_stats_batched(some)
                for k, kept in enumerate(one.process_batched(some), at):
                    found[k] = found[k] or ("" if kept else name)
        return [[one] for one in found]

    return verdicts


def bloomery(*recipes: str) -> Verdicts:
    """The filter sets of recipes/filters, each on every document."""
    import yaml

    from bloomery.core import catalog
    from bloomery.data.expression import parse_keep
    from bloomery.data.measured import FAILED, Measured, columns_of
    from bloomery.seams import Doc

    folder = Path(__file__).parents[2] / "recipes" / "filters"
    steps = [yaml.safe_load((folder / f"{name}.yaml").read_text())["steps"]["corpus"] for name in recipes]
    signals = [(name, catalog.build_method("signal", name)) for name in dict.fromkeys(name for step in steps for name in step["signals"])]
    known = dict.fromkeys([*(column for made in columns_of(signals).values() for column in made), "document.bytes"], "number")
    keeps = [parse_keep(step["keep"], known) for step in steps]

    def verdicts(texts: list[str]) -> list[list[str]]:
        found, at = [], 0
        while at < len(texts):
            stop, held = at, 0
            while stop < len(texts) and held < BATCH:
                held += len(texts[stop])
                stop += 1
            docs, columns = [Doc("", text) for text in texts[at:stop]], {}
            for name, signal in signals:
                made = Measured(name, signal).columns(docs, {}, None)
                if made.pop(FAILED).null_count < len(docs):
                    raise RuntimeError(f"signal {name} failed on a document")
                columns |= {column: values.to_numpy() for column, values in made.items()}
            columns["document.bytes"] = [len(text) for text in texts[at:stop]]
            failed = [keep.failed({name: columns[name] for name in keep.columns}) for keep in keeps]
            found += [
                [keep.clauses[clause][0] if clause >= 0 else "" for keep, clause in zip(keeps, row, strict=True)]
                for row in zip(*failed, strict=True)
            ]
            at = stop
        return found

    return verdicts


CONTESTANTS = {
    "datatrove": datatrove,
    "data-juicer": data_juicer,
    "bloomery:datatrove": lambda: bloomery("gopher", "c4", "fineweb"),
    "bloomery:data-juicer": lambda: bloomery("data-juicer"),
}


def main() -> None:
    name, file = sys.argv[1:]
    with open(file, encoding="utf-8") as lines:
        texts = [json.loads(line) for line in lines]
    verdicts = CONTESTANTS[name]()
    verdicts(["The first of them is here. It is short, and äöü too.\n", "A second, and that is all of it.", *texts[:3]])  # warm
    print("ready", flush=True)
    sys.stdin.readline()
    began, used = time.perf_counter(), time.process_time()
    found = verdicts(texts)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": memory(), "verdicts": found}), flush=True)


if __name__ == "__main__":
    main()
