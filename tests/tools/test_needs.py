from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from bloomery.core.errors import BadInput
from bloomery.tools.needs import bound, needing, needs


@dataclass(frozen=True)
class Scores:
    needs = ("score:teacher", "run")


@dataclass(frozen=True)
class Outer:
    inner: Any = None


@dataclass(frozen=True)
class Sketches:
    needs = ("sketch_grad",)


@dataclass(frozen=True)
class Asks:
    needs = ("ask",)


def test_needs_of_inner_methods_are_found():
    assert [need for _, need in needs([Outer((Outer(Scores()),)), Outer(3)])] == ["score:teacher", "run"]
    assert needing(Outer(Scores())) and not needing(Outer(Outer()))


@dataclass(frozen=True)
class Embeds:
    needs = ("embed:encoder:mean",)


def test_a_need_that_nothing_answers_is_refused():
    bound([Embeds()], {"encoder"})
    with pytest.raises(BadInput, match="test_needs needs a model in the role 'encoder'"):
        bound([Embeds()], {"encoder:mean"})
    bound([Scores(), Outer()], {"teacher"})
    bound([Asks()], ["default"])
    with pytest.raises(BadInput, match=r"roles: test_needs needs a model in the role 'teacher', and none is bound"):
        bound([Outer(Scores())], {})
    with pytest.raises(BadInput, match="bound are judge, reference"):
        bound([Scores()], {"reference", "judge"})
    with pytest.raises(BadInput, match="role 'default'"):
        bound([Asks()], {"teacher"})
    with pytest.raises(BadInput, match="not offered yet"):
        bound([Sketches()], {"default"})
