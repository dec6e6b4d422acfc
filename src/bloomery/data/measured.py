"""Columns of a signal: its numbers for every document, and for a document on which it fails, why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bloomery.core.errors import BadInput
from bloomery.data.documents import TROUBLE
from bloomery.seams import Doc, Signal

FAILED = "_failed"  # column that says why a document has no numbers; null where it has


def columns_of(signals: Sequence[tuple[str, Signal]]) -> dict[str, list[str]]:
    """The columns that each signal makes, asked of no documents. Raises BadInput when two signals share a name."""
    twice = [name for name, count in Counter(name for name, _ in signals).items() if count > 1]
    if twice:
        raise BadInput(f"signals: {twice[0]} is named twice; name each signal once")
    return {name: [f"{name}.{column}" for column in signal.columns([], None)] for name, signal in signals}


@dataclass(frozen=True)
class Measured:
    """A signal as a maker of columns; picklable. `tools` is for signals that ask."""

    name: str
    signal: Signal
    tools: Any = field(default=None, compare=False)

    def columns(self, docs: Sequence[Doc], poisoned: Mapping[int, str], mark: Callable[[int], None] | None) -> dict[str, Any]:
        """Arrow arrays by name, FAILED among them. `poisoned`: documents by number that are known to kill their
        worker; with `mark` one document is measured at a time, and told before."""
        import pyarrow as pa

        good = [k for k in range(len(docs)) if k not in poisoned]
        failed: list[str | None] = [poisoned.get(k) for k in range(len(docs))]
        if mark is None:
            try:
                found = self._values([docs[k] for k in good])
            except TROUBLE:
                raise
            except Exception:
                sound = [k for k in good if self._alone(docs[k], k, failed, None)]
                if sound == good:  # no document is at fault
                    raise
                good, found = sound, self._values([docs[k] for k in sound])
        else:
            parts = [(k, part) for k in good if (part := self._alone(docs[k], k, failed, mark))]
            good, empty = [k for k, _ in parts], self._values([])
            found = {name: np.concatenate([values, *(part[name] for _, part in parts)]) for name, values in empty.items()}
        return {name: _spread(values, good, len(docs)) for name, values in found.items()} | {FAILED: pa.array(failed, pa.string())}

    def _alone(self, doc: Doc, k: int, failed: list[str | None], mark: Callable[[int], None] | None) -> dict[str, np.ndarray] | None:
        """The numbers of one document, None where the signal fails on it, and then why in `failed`."""
        try:
            if mark:
                mark(k)
            return self._values([doc])
        except TROUBLE:
            raise
        except Exception as error:
            failed[k] = f"{type(error).__name__}: {error}"[:200]
            return None

    def _values(self, docs: Sequence[Doc]) -> dict[str, np.ndarray]:
        columns = {}
        for column, values in self.signal.columns(docs, self.tools).items():
            columns[f"{self.name}.{column}"] = array = np.asarray(values, np.float64)
            if array.shape != (len(docs),):
                raise ValueError(f"signal {self.name} gave {array.shape} values of {column} for {len(docs)} documents")
        return columns


def _spread(values: np.ndarray, rows: Sequence[int], count: int) -> Any:
    """The values of some rows among all; NaN elsewhere."""
    import pyarrow as pa

    whole = np.full(count, np.nan)
    whole[rows] = values
    return pa.array(whole, pa.float64())
