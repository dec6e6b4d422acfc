"""Task `api_changes`: whether a model calls functions as they are now, not as they were before a library changed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.calls import outcomes, sandboxed, trial
from bloomery.data.literals import alike, literal
from bloomery.data.questions import Row, asked, group_of
from bloomery.data.signatures import call_of, changes
from bloomery.num.changes import mean_change
from bloomery.num.statistics import share
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

Rows = Sequence[tuple[Item, Episode, Grade]]
FORMS = {
    "complete": "{shown}import {module}\n\n# {about}\nresult = ",
    "correct": "{shown}import {module}\n\n# {about}\n# This call fails as installed:\n# result = {legacy}\n# The right call:\nresult = ",
}


@dataclass(frozen=True)
class ApiChanges:
    """Share of calls that do what is asked under a library's new version, and of those that still follow the old one.

    P296 Wang et al. 2025, arXiv 2502.16645 (CODESYNC)
    Differs: versions are two sources of a module in a row, and their differences are found in the source, not by introspection of packages;
        of the three tasks completion and correction are asked, and both are graded by running the call, not by likeness to a reference;
        an answer is one call of the module with literal arguments, so that a result cannot be written down instead.
    Costs: two completions for each use, each run once in the sandbox under either version.
    """

    file: str = ""  # of the questions' folder, without its ending; empty: those whose rows have the fields
    count: int = 0  # uses at most; 0: all
    told: bool = False  # the new signature is shown: what the model can do where it need not know
    limit: int = 64  # tokens of a call at most
    limit_s: float = 5.0  # seconds that a call has
    subject = "model"
    needs = ("run",)
    metrics = {
        "api_completed": ("share", "higher"),
        "api_corrected": ("share", "higher"),
        "api_outdated": ("share", "lower"),
    }  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 0 or self.limit < 1 or not self.limit_s > 0:
            raise ValueError("count must be at least 0, limit at least 1 and limit_s above 0")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """Completion and correction of each use. BadInput for a row whose calls do not follow from what has changed."""
        for key, row in asked(source, self.file, ("module", "old", "new", "about", "legacy", "updated"), self.count):
            function = changed(key, row)
            after = changes(str(row["old"]), str(row["new"]), key)[function][1]
            shown = f"# {row['module']}.{function}({after})\n" if self.told and after else ""
            held = {name: str(row[name]) for name in ("module", "old", "new", "updated")}
            for kind, form in FORMS.items():
                prompt = form
                for name, text in (("shown", shown), *((name, str(row[name]).strip()) for name in ("module", "about", "legacy"))):
                    prompt = prompt.replace(f"{{{name}}}", text)
                about = {"group": group_of(row, f"{row['module']}.{function}"), "kind": kind, "tests": json.dumps(held)}
                yield Item(f"{key}/{kind}", prompt.rstrip(" "), "generate", f" {row['updated']}", self.limit, ("\n",), **about)

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where the call gives under the new version what the updated one gives, else 0; part `outdated` where a call does under
        the old version alone. Another function with the same result does not count.
        BadInput without tools, and for an updated call that itself fails."""
        held = json.loads(item.tests)
        call = call_of(episode.text, held["module"])
        known, wanted = self._given(held, "new", held["updated"], tools)
        if not known:
            raise BadInput(f"questions: {item.id}: the updated call gives no literal under the new version; mend the row or leave it out")
        if call is None:
            return Grade(0.0, {"outdated": 0.0, "call": 0.0})
        right = {version: self._given(held, version, call[1], tools) for version in ("old", "new")}
        does = {version: found and alike(value, wanted) for version, (found, value) in right.items()}
        score = does["new"] and call[0] == call_of(held["updated"], held["module"])[0]
        return Grade(float(score), {"outdated": float(does["old"] and not does["new"]), "call": 1.0})

    def _given(self, held: dict, version: str, call: str, tools: Tools | None) -> tuple[bool, object]:
        """What a call gives under a version."""
        files = {f"{held['module']}.py": held[version].encode()}
        return literal(outcomes(sandboxed(tools, "calls").run(trial(f"import {held['module']}", [call]), files, self.limit_s).stdout, 1)[0])

    def summary(self, rows: Rows, rng: Rng) -> dict[str, float]:
        """Shares completed, corrected, and outdated among all, with intervals clustered by function."""
        found: dict[str, float] = {}
        for metric, (values, groups) in columns(rows).items():
            found |= share(values, groups, rng).named(metric) if values else {}
        return found

    def rights(self, rows: Rows) -> tuple[list[float], list[str]]:
        """Whether each completed call does what is asked, and its group."""
        return columns(rows)["api_completed"]

    def compare(self, rows: Rows, others: Rows, rng: Rng) -> dict[str, float]:
        """Differences of the three shares."""
        found, theirs = {}, columns(others)
        for metric, (values, groups) in columns(rows).items():
            found |= mean_change(values, theirs[metric][0], groups, rng).named(metric) if values else {}
        return found


def columns(rows: Rows) -> dict[str, tuple[list[float], list[str]]]:
    """Of each metric the values and their groups."""
    kinds = {"api_completed": ("complete",), "api_corrected": ("correct",), "api_outdated": ("complete", "correct")}
    found: dict[str, tuple[list[float], list[str]]] = {metric: ([], []) for metric in kinds}
    for item, _, grade in rows:
        for metric in (one for one, chosen in kinds.items() if item.kind in chosen):
            found[metric][0].append(grade.parts["outdated"] if metric == "api_outdated" else grade.score)
            found[metric][1].append(item.group)
    return found


def changed(key: str, row: Row) -> str:
    """The function that a use is of. BadInput for a module's name that is none, and calls that are not of functions that have changed."""
    module = str(row["module"])
    if not module.isidentifier() or module == "main":
        raise BadInput(f"questions: {key}: module {module!r} is no name of a module; mend the row")
    calls = {name: call_of(str(row[name]), module) for name in ("legacy", "updated")}
    for name, call in calls.items():
        if call is None:
            raise BadInput(f"questions: {key}: {name} is no call of {module} with literal arguments; mend the row")
    differ = changes(str(row["old"]), str(row["new"]), key)
    names = [one for call in calls.values() if call for one in (call[0], f"{call[0]}.__init__") if one in differ]
    if not names:
        raise BadInput(
            f"questions: {key}: no parameters of {calls['legacy'][0]} have changed; the functions that did are {', '.join(differ)}"
        )
    return names[-1]
