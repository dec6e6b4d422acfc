"""An orderly end: where the signal falls, and that it is not lost."""

from __future__ import annotations

import signal
import sys
import time
import weakref

import pytest

from bloomery.core.errors import Interrupted
from bloomery.core.signals import Signals


class Thing:
    """What a weak reference can be held of."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_is_swallowed_comes_again(number, capsys):
    """As in the midst of a compilation, where objects are cleared away by the thousand."""
    swallowed = []

    def sent(_: object) -> None:
        swallowed.append(True)
        signal.raise_signal(number)
        for _ in range(100):
            pass

    signals, hook = Signals(), sys.unraisablehook
    with pytest.raises(Interrupted, match="stopped by"), signals.listening():
        thing = Thing()
        watched = weakref.ref(thing, sent)
        del thing
        assert watched() is None
        for _ in range(600):
            time.sleep(0.05)
    assert swallowed == [True] and signals.stopping and sys.unraisablehook is hook
    assert capsys.readouterr().err == ""


def test_within_deferred_a_signal_waits_for_the_end():
    signals, done = Signals(), []
    with pytest.raises(Interrupted, match="stopped by SIGTERM"), signals.listening():
        with signals.deferred():
            signal.raise_signal(signal.SIGTERM)
            done.append(signals.stopping)
        done.append("never")
    assert done == [True]
