"""Processes that are killed or asked to stop anywhere: the run that goes on ends with the same bits."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
import torch
from nursery import Nursery
from small_run import curve, training

from bloomery.train.loop import train


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_run_that_goes_on_ends_with_the_same_bits(tmp_path: Path, nursery: Nursery, number: signal.Signals) -> None:
    torch.set_num_threads(1)
    whole = training(tmp_path / "whole")
    train(whole)
    folder, draw, struck = tmp_path / "parts", random.Random(0), 0
    for attempt in range(9):
        steps = folder / "curve.jsonl"
        process = nursery.start("small_run:killed", str(folder))
        while attempt < 3 and process.poll() is None:
            if steps.exists() and len(list((folder / "checkpoints").glob("step-*"))) and newest(folder) >= 4 * attempt + 2:
                time.sleep(draw.random() * 0.02)  # anywhere in a step or in the writing of a checkpoint
                process.send_signal(number)
                break
            time.sleep(0.001)
        said = process.communicate()
        if process.returncode == 0:
            break
        struck += 1
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 75), said
        assert number == signal.SIGKILL or "the same command goes on" in said
    assert struck >= 1 and process.returncode == 0
    done = training(folder)
    train(done)
    assert all(torch.equal(done.optimizer.tensors()[name], t) for name, t in whole.optimizer.tensors().items())
    assert curve(done) == curve(whole)


def newest(folder: Path) -> int:
    return max((int(path.name[5:17]) for path in (folder / "checkpoints").glob("step-*")), default=0)
