"""Copies that step by themselves, in two processes: when they are the same, what they send, and that they learn (diloco)."""

from __future__ import annotations

import json

import pytest
import rank_processes


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("diloco")
    output = rank_processes.run("local_run", "everything", 2, folder, str(folder))
    (line,) = [line for line in output[0].splitlines() if line.startswith("TOLD")]
    return json.loads(line.removeprefix("TOLD"))


def test_one_step_and_an_outer_rate_of_one_without_momentum_is_a_mean_of_steps(told: dict) -> None:
    """With SGD inside, a mean of steps is a step with the mean gradient: what copies that share gradients do."""
    assert told["mean"] < 1e-6


def test_ranks_differ_between_outer_steps_and_not_after_one(told: dict) -> None:
    assert told["apart"] == [True, True, True, True, False] * 4


def test_it_trains_and_sends_little(told: dict) -> None:
    """The loss comes near that of shared gradients; bytes of 20 steps are those of four outer steps, by the formula."""
    assert told["first"] - told["loss"] > 0.8 * (told["first"] - told["shared_loss"]) > 0
    assert told["sent"] == told["formula"] and told["sent"] < 0.7 * told["shared_sent"]


def test_a_run_that_is_stopped_goes_on_from_an_outer_step(told: dict) -> None:
    assert told["stopped"] == 10 and told["resumed"] < 1e-6
