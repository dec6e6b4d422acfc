"""What a random model and the reference answers get in every task that reads questions or makes them: the two ends of each scale.

    python benchmarks/tasks.py [--quick] [--tasks machine_text,ifeval] [--json]

Questions are generated in the published forms, 24 of each (--quick: 6), and written as files that are read back as an evaluate step does.
The model has 0.2M parameters, drawn at random, and answers greedily. Where a task compares likelihoods, the reference is a judge that
finds what is right likelier. Peers have other names for the same data; there is none that asks all of these
forms offline. A task whose package is missing is skipped by name.

--json: one line per figure, {"task", "metric", "unit", "better", "random", "reference", "n"}.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bloomery.core import catalog
from bloomery.core.rng import python_rng, torch_rng
from bloomery.data.haystack import idle
from bloomery.data.questions import read_questions
from bloomery.data.tokenizer import learn
from bloomery.infer.answers import Examinee
from bloomery.infer.model import load
from bloomery.infer.sampler import Sampler
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Episode, Item, Rng, Source
from bloomery.tools.sandbox import Sandbox

TASKS: tuple[dict[str, dict[str, Any]], ...] = (
    {"multiple_choice": {}}, {"cloze": {}}, {"humaneval": {"limit": 48}}, {"mbpp": {"limit": 48}}, {"p3": {"limit": 48}},
    {"math_answers": {"limit": 32}}, {"functions": {"limit": 48}}, {"programs": {"limit": 48}}, {"text_to_sql": {"limit": 32}},
    {"api_changes": {"limit": 24}}, {"ifeval": {"limit": 48}}, {"longbench": {"tokens": 700}}, {"needle": {}}, {"needle": {"keys": 4}},
    {"variable_tracking": {}}, {"planning_graphs": {"limit": 48}}, {"retrieval": {}}, {"chunk_overlap": {}}, {"machine_text": {}},
    {"group_bias": {}},
)  # fmt: skip
PACKAGES = {"math_answers": ("math_verify",)}
PEOPLE = ("millers", "weavers", "clerks")


def questions(count: int) -> dict[str, list[dict[str, Any]]]:
    """Rows of every form, by file."""
    draw, text = python_rng(Rng((0, "tasks"))), idle(Rng((1, "tasks")))
    numbers, told = [draw.randint(2, 90) for _ in range(count + 3)], [[next(text) for _ in range(12)] for _ in range(count)]
    rules = (
        ("punctuation:no_comma", {}, "No commas here."), ("startend:quotation", {}, '"All of it."'),
        ("detectable_format:title", {}, "<<A day>>"),
        ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n* two"), ("detectable_format:json_format", {}, '{"a": 1}'),
        ("length_constraints:number_words", {"num_words": 5, "relation": "at least"}, "one two three four five"),
    )  # fmt: skip
    return {
        "choices": [{"question": f"{n} and 1 is", "choices": [str(n), str(n + 1), str(n + 2), str(n + 3)], "answer": 1} for n in numbers],
        "gaps": [{"context": one[0].rpartition(" ")[0], "ending": one[0].rpartition(" ")[2]} for one in told],
        "functions": [
            {"prompt": f'def f(x):\n    """x and {n}."""\n', "canonical_solution": f"\n    return x + {n}\n", "entry_point": "f",
             "test": f"def check(f):\n    assert f(1) == {n + 1}"} for n in numbers
        ],
        "programs": [{"text": f"Add {n}.", "code": f"def g(x): return x + {n}", "test_list": [f"assert g(1) == {n + 1}"]} for n in numbers],
        "puzzles": [
            {"name": f"Sum{i}:0", "sat": f"def sat(x: int):\n    return x + {n} == 100", "ans_type": "int", "sol_header": "def sol():",
             "sol_docstring": "", "sol_bodies": [f"    return 100 - {n}"]} for i, n in enumerate(numbers)
        ],
        "sums": [{"problem": f"What is {n} + 1?", "answer": str(n + 1)} for n in numbers],
        "examples": [
            {"entry_point": "h", "code": f"def h(x):\n    return x * {n}", "examples": [[f"h({x})", str(x * n)] for x in range(5)],
             "tests": [["h(9)", str(9 * n)]]} for n in numbers
        ],
        "dev": [{"question": f"Which towns have {n} people or more?", "db_id": "towns",
                 "SQL": f"SELECT name FROM town WHERE people >= {n}"} for n in numbers],
        "uses": [
            {"module": "m", "old": "def f(x): return x", "new": "def f(*, y): return y", "about": f"Give {n}.", "legacy": f"m.f({n})",
             "updated": f"m.f(y={n})", "group": str(i)} for i, n in enumerate(numbers)
        ],
        "rules": [{"key": i, "prompt": f"Say {n}.", "instruction_id_list": [rules[i % 6][0]],
                   "kwargs": [rules[i % 6][1]], "reply": rules[i % 6][2]}
                  for i, n in enumerate(numbers)],
        "long": [
            {"input": f"Who came as number {n}?", "context": " ".join(one), "answers": [one[3].split()[1]],
             "dataset": "hotpotqa", "length": 90}
            for n, one in zip(numbers, told, strict=False)
        ] + [{"input": "", "context": " ".join(one), "answers": [one[0]], "dataset": "gov_report", "length": 5000} for one in told],
        "queries": [{"query": one[0], "gold_ids": [str(i)], "excluded_ids": ["N/A"]} for i, one in enumerate(told)],
        "corpus": [{"id": str(i), "content": " ".join(one[1:6]) + " " + one[0].lower()} for i, one in enumerate(told)],
        "chunks": [{"document": " ".join(one), "question": one[5].rstrip("."), "spans": [one[5]]} for one in told],
        "written": [{"text": " ".join(one * 2), "label": ("human", "machine")[i % 2]} for i, one in enumerate(told)],
        "people": [{"template": f"{one[0]} Then the {{group}}", "groups": list(PEOPLE),
                    "kind": ["helped"], "unkind": ["stole"]} for one in told],
    }  # fmt: skip


def written(root: Path, rows: dict[str, list[dict[str, Any]]]) -> Source:
    """The files of the questions and of a random model, read back as an evaluate step reads them."""
    for name in ("questions", "model"):
        (root / name).mkdir()
    for name, found in rows.items():
        (root / "questions" / f"{name}.json").write_text(json.dumps(found))
    base = sqlite3.connect(root / "questions" / "towns.sqlite")
    base.executescript(
        "CREATE TABLE town (name TEXT, people INTEGER);" + "".join(f"INSERT INTO town VALUES ('t{n}', {n});" for n in range(100))
    )
    base.close()
    net = Transformer(Config(vocab=600, width=64, layers=2, heads=4, kv_heads=2, ffn=128, context=1400))
    for p in net.parameters():
        p.data.normal_(0, 0.2, generator=torch_rng(Rng((2, *p.shape))))
    save(net.eval(), root / "model")
    texts = [json.dumps(found) for found in rows.values()]
    learn(texts * 2, 600).save(root / "model")
    model = load(root / "model")
    return Source(model.net, Examinee(model).tokenizer, questions=read_questions(root / "questions"), folder=root / "questions")


def referred(name: str, item: Item, rows: dict[str, list[dict[str, Any]]]) -> Episode:
    """What a perfect model would give back."""
    if item.want == "generate":
        told = rows["rules"][int(item.id.partition(":")[2])]["reply"] if name == "ifeval" else item.target
        return Episode("reference", item.id, told, ended="stop")
    right = item.kind in ("right", "machine") or (name == "chunk_overlap" and json.loads(item.tests)["both"] > 0)
    level = -1.0 if right else -2.0
    logp = wavering(level) if name == "machine_text" else (level,)
    drawn = tuple(wavering(-1.5 + shift) for shift in (-0.1, 0.0, 0.1)) if item.draws else ()
    return Episode("reference", item.id, logp=(*logp, 0.0), drawn=drawn)


def wavering(level: float) -> tuple[float, ...]:
    """Log-probabilities about a level; what never changes has no spread."""
    return (level, level - 0.1) * 40


def figures(count: int, root: Path, names: Collection[str] = ()) -> Iterator[dict[str, Any]]:
    """A line for each metric of each task, or of those named."""
    rows = questions(count)
    source, sandbox = written(root, rows), Sandbox()
    engine = Sampler(Examinee(load(root / "model")), ())
    for spec in (one for one in TASKS if not names or set(one) & set(names)):
        (name, knobs), task = next(iter(spec.items())), catalog.build_method("task", spec)
        if lacking := [one for one in PACKAGES.get(name, ()) if find_spec(one) is None]:
            print(f"skipped: {name} needs {lacking[0]}", file=sys.stderr)
            continue
        items = list(task.items(source, Rng((3, name))))
        asked: dict[str, Callable[[], list[Episode]]] = {
            "random": lambda items=items: [found[0] for found in engine.sample(items, 1, Rng((4, "random")))],
            "reference": lambda items=items, name=name: [referred(name, item, rows) for item in items],
        }
        found = {}
        for who, answer in asked.items():
            graded = [(item, episode, task.grade(item, episode, sandbox)) for item, episode in zip(items, answer(), strict=True)]
            found[who] = task.summary(graded, Rng((5, name)))
        for metric in (one for one in found["random"] if not one.endswith((".low", ".high", ".n"))):
            unit, better = task.metrics[metric.partition("@")[0]]
            about = {"random": found["random"][metric], "reference": found["reference"].get(metric), "n": found["random"][f"{metric}.n"]}
            label = f"{name}, {knobs['keys']} keys" if "keys" in knobs else name
            yield {"task": label, "metric": metric, "unit": unit, "better": better, **about}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tasks", default="", help="these alone, with commas between them")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    names = [one for one in given.tasks.split(",") if one]
    if unknown := sorted(set(names) - {name for one in TASKS for name in one}):
        parser.error(f"there is no task {unknown[0]!r} here")
    with tempfile.TemporaryDirectory() as folder:
        for line in figures(6 if given.quick else 24, Path(folder), names):
            if given.json:
                print(json.dumps(line), flush=True)
            else:
                reference = "" if line["reference"] is None else f"{line['reference']:.2f}"
                print(f"| `{line['task']}` | {line['metric']} | {line['n']:.0f} | {line['random']:.2f} | {reference} |", flush=True)


if __name__ == "__main__":
    main()
