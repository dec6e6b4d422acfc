"""What every file of claims keeps to: found by listing, so that a new file is tested by being there. Nothing is proven here."""

from __future__ import annotations

import re

import pytest

from bloomery.core import catalog
from bloomery.lab import claims, evidence, verdicts
from bloomery.seams import SEAMS

FILES = claims.all_claims()
every = pytest.mark.parametrize("claim", FILES, ids=lambda claim: claim.title)


def test_every_file_lies_where_it_is_found():
    found = {file for file in claims.folder().rglob("*.py") if "__pycache__" not in file.parts}
    assert found == {claim.file for claim in FILES}, "claims lie in claims/<seam>/<name>.py"


@every
def test_it_proves_a_method_that_there_is(claim):
    assert claim.seam == claims.FINDINGS or claim.seam in SEAMS
    if claim.seam in SEAMS:
        assert claim.name in catalog.entries(claim.seam), f"there is no {claim.seam} method '{claim.name}' for this claim to prove"


@every
def test_each_claim_says_what_it_shows_and_takes_the_lab(claim):
    assert claim.functions, "a public function that takes the lab alone is a claim, and there is none"
    module = claims.load(claim.file)
    for name, says in claim.functions.items():
        assert callable(getattr(module, name))
        assert len(says.split()) >= 5, f"{name}: the docstring is the claim in one sentence"
        assert re.search(r"\d", says) or "no figure" in says, f"{name}: the paper's figure, or the words 'no figure'"


@every
def test_importing_it_is_light(claim):
    """Heavy packages are imported inside the claims: a listing reads many files, and workers load them again."""
    import ast

    for node in ast.parse(claim.file.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & {"torch", "transformers", "pyarrow"}, claim.file


@every
def test_a_stored_result_is_its_own(claim):
    record = evidence.read(evidence.shipped(claim))
    if record is None:
        return
    assert (record["seam"], record["name"]) == (claim.seam, claim.name)
    assert f"claims/{claim.title}.py" in record["sources"]
    assert {one["name"] for one in record["claims"]} <= set(claim.functions)
    for one in record["claims"]:
        compared = [verdicts.read(found) for found in one["comparisons"]]
        assert one["verdict"] == verdicts.verdict(found.outcome for found in compared)
        for found in compared:
            again = verdicts.compare(
                found.relation, found.what, values(found.ours), values(found.baseline), found.unit, found.margin, found.better
            )
            assert again.outcome == found.outcome, f"{claim.title}: '{found.what}' is judged otherwise from its own numbers"
    assert record["verdict"] == verdicts.together(one["verdict"] for one in record["claims"])


def values(stored):
    """Exact counts are stored as one value."""
    return stored[0] if len(stored) == 1 and stored[0] is not None else list(stored)
