"""Claims about leaving out tables that another table contains."""

BASES, PLANTED, MISSES = 60, 70, 70  # tables; parts of some of them; parts with one cell changed
ROWS, PART = 60, 12  # of a table, of a part
BUDGET = "1GB"  # which does not count


def _tables(lab):
    """The tables in shuffled order, each with whether a part was planted, and a file of them as JSON lines."""
    import csv
    import io
    import json

    from bloomery.core.rng import python_rng

    draw, made = python_rng(lab.rng("r2d2")), []

    def written(names, rows):
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([names, *rows])
        return out.getvalue()

    bases = []
    for k in range(BASES):
        names = ["key", f"left{k % 5}", "right", "note"]
        bases.append((names, [[f"{k}-{r}", draw.randrange(1000), draw.randrange(1000), f"n {draw.randrange(50)}"] for r in range(ROWS)]))
        made.append((written(*bases[-1]), False))
    for i in range(PLANTED + MISSES):
        names, rows = bases[i % BASES]
        columns = sorted({0, *(draw.sample(range(1, 4), 2) if i % 2 else range(1, 4))})
        part = [[row[c] for c in columns] for row in draw.sample(rows, PART)]
        if i >= PLANTED:
            changed = draw.choice(part)
            changed[-1] = next(row[columns[-1]] for row in rows if row[columns[-1]] != changed[-1])  # within the range of the column
        made.append((written([names[c] for c in columns], part), i < PLANTED))
    draw.shuffle(made)
    file = lab.store.root / "work" / "claim-r2d2.jsonl"
    rows = [json.dumps({"id": str(k), "text": text, "package": str(k)}) + "\n" for k, (text, _) in enumerate(made)]
    file.write_text("".join(rows))
    return made, {"from": str(file), "id": "id", "package": "package"}


def _kept(runs):
    """Ids and texts of each corpus."""
    import pyarrow.parquet as pq

    tables = [pq.read_table(run.artifact.path("train.parquet"), columns=["id", "text"]).to_pydict() for run in runs]
    return [dict(zip(table["id"], table["text"], strict=True)) for table in tables]


def _rows(texts):
    """The distinct rows of tables, each as the cells by the names of their columns."""
    from bloomery.methods.select.r2d2 import read

    found = set()
    for names, rows in (read(text, ",", 2) for text in texts):
        found |= {frozenset(zip(names, row, strict=True)) for row in rows}
    return found


def _told(kept, rows):
    """Share of rows that stand in what was kept, by themselves or within a row of more columns."""
    by_key = {}
    for row in kept:
        by_key.setdefault(dict(row)["key"], []).append(row)
    return sum(any(row <= other for other in by_key.get(dict(row)["key"], ())) for row in rows) / len(rows)


def _within(a, b, tables, wider):
    """Whether each row of table a stands in table b, cell by cell."""
    if a == b or not set(tables[a][0]) <= set(tables[b][0]):
        return False
    return all(any(row <= other for other in wider[b]) for row in wider[a])


def contained_tables_are_found_and_nothing_is_lost(lab):
    """Of 200 tables with 70 planted parts and 70 near misses every contained one is dropped and no other, as a comparison of all pairs
    says, after comparing the rows of less than a tenth of the pairs; every row still stands in what is kept, of which a random choice
    of as many bytes loses some (Shah et al. 2023: a lake of terabytes in about 5 hours)."""
    from bloomery.methods.select.r2d2 import funnel, read

    made, source = _tables(lab)
    tables = [read(text, ",", 2) for text, _ in made]
    wider = [[dict(zip(names, row, strict=True)).items() for row in rows] for names, rows in tables]
    contained = {str(a) for a in range(len(made)) if any(_within(a, b, tables, wider) for b in range(len(made)))}
    about = {"sources": [source], "edits": [], "signals": ["length"], "near": 0.0, "guard": 0.0, "heldout": 0.0}
    ours = _kept(lab.curate(**about, select="r2d2", budget=BUDGET))
    size = sum(len(text.encode()) for text in ours[0].values())
    theirs = _kept(lab.curate(**about, select="random", budget=f"{size}B"))
    planted = {str(k) for k, (_, part) in enumerate(made) if part}
    dropped = [{str(k) for k in range(len(made))} - set(kept) for kept in ours]
    everything = _rows(text for text, _ in made)
    told = {name: [_told(_rows(kept.values()), everything) for kept in runs] for name, runs in (("ours", ours), ("random", theirs))}
    _, ranged, _ = funnel(tables)
    return [
        lab.near("planted parts dropped", min(len(planted & gone) for gone in dropped), len(planted), margin=0),
        lab.near("tables dropped that no other contains", max(len(gone - contained) for gone in dropped), 0, margin=0),
        lab.less("pairs whose rows are compared", len(ranged), len(tables) * (len(tables) - 1) / 10),
        lab.near("share of rows that still stand somewhere", min(told["ours"]), 1.0, margin=0.0),
        lab.more("share of rows that still stand, against a random choice of as many bytes", told["ours"], told["random"]),
    ]
