"""Whose fault a failed trial is: settings that a model cannot have are a method's; damage, a full disk or a missing input are not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bloomery.core.errors import BadInput, CheckFailed
from bloomery.core.recipe import parse
from bloomery.core.store import Artifact, Store
from bloomery.core.walk import StepFailed, plan
from bloomery.lab import trials
from bloomery.lab.attempts import attempt


def published(store: Store, stage: str, kind: str, address: str) -> Artifact:
    out = store.work / "out"
    out.mkdir()
    (out / "text").write_text("abc")
    card = {"address": address, "stage": stage, "kind": kind, "step": kind, "recipe": "r", "made": "", "knobs": {}, "inputs": {}}
    return store.publish(stage, out, card)


@pytest.fixture
def tokens(store) -> Artifact:
    """Tokens that no step can train on: there are none in it."""
    return published(store, "tokenize", "tokens", "7" * 64)


def task(store: Store, **knobs: Any) -> tuple[str, dict[str, Any]]:
    trial = {"stage": "pretrain", "data": "@tokenize-7777777777777777", "width": 16, "heads": 2, "compile": "off", **knobs}
    return str(store.root), {"name": "one", "seed": 0, "steps": {"trial": trial}}


def test_settings_that_the_plan_refuses_are_a_failed_trial(store, tokens) -> None:
    assert "batch must be at least context" in attempt(task(store, batch=8)).diverged
    assert "warmup" in attempt(task(store, schedule={"wsd": {"warmup": 3.0}})).diverged


def test_settings_that_the_step_refuses_at_work_are_a_failed_trial(store, tokens) -> None:
    outcome = attempt(task(store))
    assert outcome.diverged.startswith("steps.trial: ") and outcome.fresh and not outcome.made


def test_an_input_that_is_damaged_or_gone_is_no_trial(store, tokens) -> None:
    tokens.path("text").write_text("abd")  # of the same size: only its hash tells
    with pytest.raises(BadInput, match="damaged"):
        attempt(task(store, batch=8, context=8))
    tokens.path("text").unlink()
    for settings in ({}, {"batch": 8}):
        with pytest.raises(BadInput, match="damaged"):
            attempt(task(store, **settings))
    store.remove(tokens.name)
    with pytest.raises(BadInput, match="no artifact"):
        attempt(task(store))


def test_an_input_that_is_damaged_while_it_is_read_is_no_trial(store, tokens, monkeypatch) -> None:
    def carry_out(given):
        tokens.path("text").write_text("abd")
        raise StepFailed("steps.trial: the shards make no sense")

    monkeypatch.setattr(trials, "carry_out", carry_out)
    with pytest.raises(BadInput, match="damaged"):
        attempt(task(store))


def test_a_damaged_trial_is_said(store, tokens) -> None:
    (planned,) = plan(parse(task(store)[1], "here"), store)
    published(store, "pretrain", "model", planned.address).path("text").unlink()
    with pytest.raises(BadInput, match=r"pretrain-.* is damaged"):
        attempt(task(store))


def test_what_no_settings_cause_is_raised(store, tokens, monkeypatch) -> None:
    def raising(wrong: BaseException, cause: BaseException | None = None):
        def carry_out(given):
            raise wrong from cause

        monkeypatch.setattr(trials, "carry_out", carry_out)

    for wrong in (CheckFailed("never moved"), BadInput("steps.trial: rank too large"), StepFailed("steps.trial: rank too large")):
        raising(wrong)
        assert attempt(task(store)).diverged == str(wrong)
    for wrong, cause in (
        (StepFailed("steps.trial: the disk is full"), OSError(28, "full")),
        (StepFailed("trial: removed from the store by another command meanwhile; run again"), None),
        (BadInput("/store: the recipe needs about 9 MB and the disk has 1 MB free"), None),
        (OSError(5, "bad disk"), None),
    ):
        raising(wrong, cause)
        with pytest.raises(type(wrong), match=re.escape(str(wrong))):
            attempt(task(store))
