"""Claims are found by listing their files, by name, by seam and by path."""

from __future__ import annotations

import textwrap

import pytest

from bloomery.core.errors import BadInput
from bloomery.lab import claims

OWN = '''
    """Claims of one's own."""
    LIMIT = 3

    def _square(x):
        return x * x

    def squares(lab):
        """Three squares: 1, 4 and 9."""
        return lab.near("sum", sum(lab.each(_square, range(1, LIMIT + 1))), 14, margin=0)
'''


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of claims about `wsd` and `constant`, and a study."""
    for seam, name in (("schedule", "wsd"), ("schedule", "constant"), ("findings", "study")):
        (tmp_path / seam).mkdir(exist_ok=True)
        (tmp_path / seam / f"{name}.py").write_text(textwrap.dedent(OWN))
    (tmp_path / "schedule" / "_part.py").write_text("")
    monkeypatch.setattr(claims, "folder", lambda: tmp_path)
    return tmp_path


def test_listing_reads_without_running(place):
    (place / "schedule" / "wsd.py").write_text('raise SystemExit\ndef a(lab):\n    """One 1."""\ndef _b(): ...\n')
    found = claims.all_claims()
    assert [claim.title for claim in found] == ["schedule/constant", "schedule/wsd", "findings/study"]
    assert found[1].functions == {"a": "One 1."}
    assert found[1].method.name == "wsd" and found[2].method is None


def test_names_seams_and_files(place, tmp_path):
    assert [claim.title for claim in claims.find(["wsd"])] == ["schedule/wsd"]
    assert [claim.title for claim in claims.find(["schedule/wsd", "wsd", "study"])] == ["schedule/wsd", "findings/study"]
    assert [claim.title for claim in claims.find([], "schedule")] == ["schedule/constant", "schedule/wsd"]
    assert claims.find([str(place / "schedule" / "wsd.py")])[0].seam == "schedule"
    own = tmp_path / "mine.py"
    own.write_text(textwrap.dedent(OWN))
    assert (claims.find([str(own)])[0].seam, claims.find([str(own)])[0].title) == ("", "mine")


@pytest.mark.parametrize(
    ("names", "seam", "said"),
    [
        (["wds"], "", "did you mean wsd"),
        (["adamw"], "", "no claim yet"),
        ([], "shedule", "did you mean schedule"),
        (["wsd"], "optim", "of the seam schedule; leave"),
        (["nothing.py"], "", "no file of claims"),
    ],
)
def test_unknown_names_are_refused_with_near_misses(place, names, seam, said):
    with pytest.raises(BadInput, match=said):
        claims.find(names, seam)


def test_a_module_is_loaded_once_and_again_from_another_folder(place):
    first = claims.load(place / "schedule" / "wsd.py")
    assert claims.load(place / "schedule" / "wsd.py") is first and first.LIMIT == 3
    broken = place / "schedule" / "constant.py"
    broken.write_text("import no_such_module_anywhere")
    with pytest.raises(ModuleNotFoundError):
        claims.load(broken)
    broken.write_text("LIMIT = 4")
    assert claims.load(broken).LIMIT == 4
