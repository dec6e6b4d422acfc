"""What becomes of a job's next token: it may end the job, and whoever listens is told."""

from __future__ import annotations

import sys
import time
import traceback
from typing import Literal

from bloomery.infer.asks import End, Job, Piece, Token


class Delivery:
    """Tells the sinks of jobs; what goes wrong there, or in the tokenizer, fails that job alone."""

    def take(self, job: Job, token: Token, wrong: str) -> None:
        """A job's next token; `wrong` says why there is none."""
        if wrong:
            self.fail(job, wrong)
            return
        try:
            ask, spelling = job.ask, job.spelling
            job.ids.append(token.id)
            job.first = job.first or time.perf_counter()
            if ask.spelled:
                spelling.add(token.id)
            if ask.logprobs is not None:
                job.tokens.append(Token(token.id, spelling.starts[-1], token.logp, token.top[: ask.logprobs]))
            if token.id in ask.stop_ids or spelling.stopped or (job.guided is not None and job.guided.take(token.id)):
                self.end(job, "stop")
            elif len(job.ids) >= job.limit:
                self.end(job, "limit")
            elif ask.live:
                self._tell(job, spelling.safe())
        except Exception as error:  # the tokenizer's, or the listener's
            self.fail(job, f"{type(error).__name__} while writing the text: {str(error)[:200]}")

    def end(self, job: Job, reason: Literal["stop", "limit"]) -> None:
        """The whole of a job that is done."""
        ask, spelling = job.ask, job.spelling
        if ask.spelled:
            spelling.end()
            text = spelling.answer
        else:
            text = spelling.whole(job.ids)
        if ask.live:
            self._tell(job, len(text))
        reason = "stop" if spelling.stopped else reason
        tokens = tuple(token for token in job.tokens if not spelling.stopped or token.start < len(text))
        job.ended = reason
        job.sink(End(reason, text, tuple(job.ids), tokens, tuple(job.prompt)))

    def fail(self, job: Job, error: str) -> None:
        """A job that cannot go on."""
        if job.ended == "failed" or job.cancelled:
            return
        job.ended = "failed"
        try:
            job.sink(End("failed", "", tuple(job.ids), error=error))
        except Exception:  # whoever listened is gone
            job.cancelled = True

    def broken(self, job: Job, error: Exception) -> None:
        """What is not the job's fault: a bug, of which the log learns."""
        traceback.print_exception(error, file=sys.stderr)

    def _tell(self, job: Job, upto: int) -> None:
        """Delivers text up to a character, with the tokens that begin in it."""
        shown = job.shown
        while job.shown < len(job.tokens) and job.tokens[job.shown].start < upto:
            job.shown += 1
        if upto > job.told:
            prompt = () if job.told else tuple(job.prompt)
            text, job.told = job.spelling.text[job.told : upto], upto
            job.sink(Piece(text, tuple(job.tokens[shown : job.shown]), prompt))
