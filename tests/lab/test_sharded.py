"""Two processes over gloo compute what one does, with the all-reduces that the plan counts."""

from __future__ import annotations

from bloomery.lab.sharded import SHAPE, run


def test_two_processes_agree_with_one_and_make_the_planned_all_reduces(tmp_path):
    for found in run(tmp_path, 2):
        assert abs(found["loss"] - found["whole"]) < 1e-5 and found["gradient"] < 1e-5
        assert found["forward"] == found["planned"] == 2 * SHAPE["layers"] + 1, "two for each block and one for the embedding"
        assert found["backward"] == 2 * SHAPE["layers"] + found["gathers"], "two for each block and one for the head"
        assert found["numbers"] == found["planned_numbers"]
