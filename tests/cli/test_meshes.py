"""`bloomery plan --cluster`: ranked meshes of a cluster that is not here."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import pytest

from bloomery.cli.main import guarded
from bloomery.nn.shapes import SHAPES

CLUSTER = "nodes=2,gpus=8,intra=900GB/s,inter=400Gb/s"


def test_meshes_of_a_published_shape_are_ranked(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["plan", "--cluster", CLUSTER, "--model", "llama-7b", "--json", "--top", "4"]) == 0
    *rows, last = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 4 and [row["seconds"] for row in rows] == sorted(row["seconds"] for row in rows)
    for row in rows:
        assert prod(row["sizes"].values()) == 16 and row["memory"] <= last["bound"]
        assert row["tokens/s"] == pytest.approx((1 << 22) / row["seconds"]) and 0 < row["TFLOP/s"] < 989
    assert sum(last["rejected"].values()) > 0


def test_the_table_says_why_meshes_are_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(["plan", "--cluster", CLUSTER, "--model", "llama-13b", "--context", "2048", "--batch", "1048576"]) == 0
    out = capsys.readouterr().out
    assert "13.02 G parameters, 512 rows of 2048 tokens a step, 16 devices" in out
    assert "more than 73.6 GB of a device" in out and "tensor reaches over more than a node" in out


def test_a_folder_is_a_model_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    SHAPES["gpt2-xl"].write(tmp_path / "model.json")
    assert guarded(["plan", "--cluster", "nodes=1,gpus=4", "--model", str(tmp_path), "--top", "1", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cluster", "nodes=1,gpus=8", "--model", "llama3-405b"], "no mesh of 8 devices trains llama3-405b: .* misses it by least"),
        (["--cluster", "nodes=x", "--model", "llama-7b"], "nodes is a whole number"),
        (["--cluster", "nodes=1", "--model", "llama-9b"], "did you mean"),
        (["--cluster", "nodes=1"], "name a recipe, or a cluster and a model"),
        (["--cluster", "nodes=1", "--model", "llama-7b", "--batch", "10"], "holds no row of 4,096"),
        (["recipe.yaml", "--cluster", "nodes=1", "--model", "llama-7b"], "--model goes with --cluster and takes the place of a recipe"),
        (["--model", "llama-7b"], "--model goes with --cluster"),
        (["--cluster", "nodes=1", "--model", "llama-7b", "--try"], "--try does steps on this machine"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    assert guarded(["plan", *arguments]) == 2
    assert re.search(said, capsys.readouterr().err)
