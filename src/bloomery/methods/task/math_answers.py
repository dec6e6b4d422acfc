"""Task `math_answers`: problems whose answer is a number or an expression, compared by value."""

from __future__ import annotations

import logging
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from bloomery.core.errors import BadInput
from bloomery.data.questions import asked, fields_of, filled, group_of
from bloomery.num.statistics import share
from bloomery.seams import Episode, Grade, Item, Rng, Source, Tools

MARK = re.compile(r"####|answer(?:\s+is)?\s*[:=]?\s", re.IGNORECASE)  # what comes before a final answer
INLINE = re.compile(r"\$(?=\S)([^$\n]*[^\s$])\$(?!\d)")  # $x+1$, and neither "$5 and $7" nor "$5-$7"
CURRENCY, COMMAND = re.compile(r"\\?\$(?=\d)"), re.compile(r"\\[A-Za-z]+(?:\{[A-Za-z ]*\})?")
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
LIMIT_S = 5.0  # seconds of the processor for reading an answer, and for comparing two
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?%?")


@dataclass(frozen=True)
class MathAnswers:
    """Share of problems whose final answer equals the reference as mathematics: 1/2 is 0.5, and x+1 is 1+x.

    Source: standard practice; the comparison is that of math-verify (Kydlicek 2025, github.com/huggingface/Math-Verify).
    Differs: of a reply counts what is boxed, else what stands after "answer" or ####, else its last formula in dollars, else its last
        number; an amount such as $5 is a number; only the checker's LaTeX reader is used, because its reader of plain expressions
        evaluates them as Python.
    Costs: one completion for each row, and milliseconds of symbolic algebra.
    """

    file: str = ""  # of the questions' folder, without .jsonl; empty: those whose rows have the fields
    form: str = "Problem: {problem}\nAnswer:"  # what is asked, with the row's fields in braces
    answer: str = "answer"  # the field with the reference: its end after #### counts, or the whole
    count: int = 0  # rows at most; 0: all
    limit: int = 256  # tokens of a reply at most
    stop: tuple[str, ...] = ("\nProblem:",)  # strings that end a reply
    subject = "model"
    metrics = {"math_right": ("share", "higher")}  # metric: unit, which way is better

    def __post_init__(self) -> None:
        if self.count < 0 or self.limit < 1:
            raise ValueError("count must be at least 0 and limit at least 1")

    def items(self, source: Source, rng: Rng) -> Iterator[Item]:
        """One item for each row. BadInput for a reference that cannot be read."""
        for key, row in asked(source, self.file, (*fields_of(self.form), self.answer), self.count):
            target = str(row[self.answer]).rpartition("####")[2].strip()
            if not read(target if "$" in target or "boxed" in target else f"${target}$"):
                raise BadInput(f"questions: {key}: the answer {target!r} is no number and no LaTeX; mend the row or leave it out")
            yield Item(key, filled(self.form, row), "generate", target, self.limit, self.stop, group=group_of(row, key))

    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade:
        """score 1 where the answers are equal, else 0; part `said` tells whether the reply held an answer at all."""
        target = item.target if "$" in item.target or "boxed" in item.target else f"${item.target}$"
        reply = final(episode.text)
        return Grade(float(bool(reply) and equal(target, reply)), {"said": float(bool(reply and read(reply)))})

    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]:
        """The share of right answers, with an interval clustered by group."""
        return share([grade.score for _, _, grade in rows], [item.group for item, _, _ in rows], rng).named("math_right")


def final(text: str) -> str:
    """The part of a reply that is its answer, as LaTeX; empty where there is none."""
    if "\\boxed" in text:
        return text
    marks = list(MARK.finditer(text))
    said = text[marks[-1].end() :].strip().split("\n")[0] if marks else text
    if inline := INLINE.findall(said):
        return f"${inline[0 if marks else -1]}$"
    bare = CURRENCY.sub("", said).strip().rstrip(".").strip()
    if marks and bare and not re.search(r"[A-Za-z]{2}", COMMAND.sub("", bare)):
        return f"${THOUSANDS.sub('', bare)}$"  # an expression, or a number without a word beside it
    numbers = NUMBER.findall(said)
    return f"${numbers[0 if marks else -1].replace(',', '')}$" if numbers else f"${bare}$" if marks and bare else ""


class Late(BaseException):
    """The time is over. No Exception, so that no part of a computer algebra takes it for an error of its own."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Late after so many seconds of this process's processor: on a machine that others keep busy an answer is worth as much."""

    def over(*_: object) -> None:
        raise Late

    before = signal.signal(signal.SIGVTALRM, over)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def read(text: str) -> list:
    """What math-verify finds in a text within LIMIT_S, else nothing; BadInput where the package is missing."""
    try:
        from math_verify import LatexExtractionConfig, parse
    except ModuleNotFoundError:
        raise BadInput("math_answers needs the package math-verify: pip install -c constraints.txt 'bloomery[math]'") from None
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    try:
        with within(LIMIT_S):
            return parse(text, [LatexExtractionConfig()], parsing_timeout=None, raise_on_error=False)
    except Late:
        return []


def equal(reference: str, reply: str) -> bool:
    """Whether two texts hold the same value; what cannot be decided within LIMIT_S is not."""
    from math_verify import verify

    found = read(reference), read(reply)
    try:
        with within(LIMIT_S):
            return bool(verify(*found, timeout_seconds=None, raise_on_error=False))
    except Late:
        return False
