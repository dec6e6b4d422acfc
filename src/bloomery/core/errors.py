"""The ways in which bloomery stops on purpose; the command line turns each into an exit code."""

from __future__ import annotations


class BadInput(Exception):
    """The recipe, the data or the store is wrong: one sentence that names the place and the mend. Exit code 2."""


class Busy(BadInput):
    """Another process is making the same artifact."""


class CheckFailed(Exception):
    """A measured boundary check is outside its limit: the step fails and nothing is published. Exit code 1."""


class Interrupted(BaseException):
    """SIGTERM or Ctrl-C arrived: the same command resumes. Exit code 75.

    Like KeyboardInterrupt it is no Exception, so that no `except Exception` on its way takes it for a fault of a document.
    """


def near(name: str, known: list[str]) -> str:
    """The end of an error sentence about an unknown name: near misses first, otherwise all known names."""
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(sorted(known))}" if known else "nothing is known here"
