"""Every mesh ends where one process ends: losses, gradients, weights, tokens and what the audit says; a sample here, all under `wide`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import rank_processes
import torch
from mesh_cases import COMPILED, FOUR, ROUGH2, ROUGH4, TWO, WIDE2, Case
from mesh_run import apart, figures, formula, laid
from small_run import shards

from bloomery.core.walk import StepFailed
from bloomery.num.stretches import stretch
from bloomery.seams import Batch, Clock
from bloomery.train.loop import train
from bloomery.train.mesh import ALONE, Mesh, bits, met

pytestmark = pytest.mark.timeout(3000)  # many runs in processes of their own, also on a busy machine
WAYS = [["shard", "tensor"], ["tensor", "pipeline"], ["pipeline", "alone"], ["alone", "shard"]]


def told(folder: Path, ranks: int, cases: dict[str, Case], ways: Sequence = ()) -> dict:
    """What each case differs by from one process, what runs do that go on on another mesh, and what is said of copies that differ."""
    asked = str(folder), json.dumps(list(cases.values())), json.dumps(ways)
    output = rank_processes.run("mesh_run", "everything", ranks, folder, *asked, seconds=2900.0)
    (line,) = [line for line in output[0].splitlines() if line.startswith("TOLD")]
    found = json.loads(line.removeprefix("TOLD"))
    return {**found, "cases": dict(zip(cases, found["cases"], strict=True))}


def demand_equal(found: dict) -> None:
    assert found["loss"] < 1e-5 and found["norm"] < 1e-4, found
    assert found["gradients"] < 1e-5, found
    assert found["weights"] < 1e-3, found
    assert found["tokens"] and found["audit"], found


def demand_counted(found: dict, case: Case) -> None:
    """Bytes of padding are sent too where parameters do not divide over four ranks: a matrix of 50 rows as one of 52."""
    wanted, sent = formula(case), sum(size for kind, size in found["sent"].items() if kind != "figures")
    assert 0 < found["sent"]["figures"] < 2048
    assert wanted is None or 0 <= sent - wanted <= 0.01 * wanted * (case[0].get("shard", 1) > 2), (case, sent, wanted)


def demand_all(found: dict[str, dict], cases: dict[str, Case]) -> None:
    for one in found.values():
        demand_equal(one)
    for name, one in found.items():
        demand_counted(one, cases[name])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return told(tmp_path_factory.mktemp("two"), 2, TWO, WAYS)


@pytest.mark.parametrize("name", TWO)
def test_two_ranks_end_where_one_process_ends(two: dict, name: str) -> None:
    demand_equal(two["cases"][name])


def test_a_checkpoint_goes_on_on_another_mesh(two: dict) -> None:
    """Written on one mesh at half of the run, read on another: the curve is that of a process that was never stopped."""
    assert max(two["ways"]) < 1e-5, dict(zip(map(str, WAYS), two["ways"], strict=True))


def test_ranks_whose_weights_have_come_apart_are_stopped(two: dict) -> None:
    assert "1 parameters differ between ranks after step 10" in two["corrupted"]


def test_ranks_of_a_pipe_ask_for_the_probabilities_of_one_process(two: dict) -> None:
    assert two["asked"] < 1e-5


@pytest.mark.wide
def test_all_meshes_of_two_ranks(tmp_path: Path) -> None:
    demand_all(told(tmp_path, 2, WIDE2)["cases"], WIDE2)


@pytest.mark.wide
@pytest.mark.parametrize("part", range(3))
def test_all_meshes_of_four_ranks(tmp_path: Path, part: int) -> None:
    demand_all(told(tmp_path, 4, dict(list(FOUR.items())[part::3]))["cases"], FOUR)


@pytest.mark.wide
def test_compiled_blocks_of_two_ranks(tmp_path: Path) -> None:
    """Beside one process whose blocks are not compiled."""
    for found in told(tmp_path, 2, COMPILED)["cases"].values():
        demand_equal(found)


@pytest.mark.wide
@pytest.mark.parametrize(("ranks", "cases"), [(2, ROUGH2), (4, ROUGH4)], ids=["two", "four"])
def test_working_weights_in_bfloat16(tmp_path: Path, ranks: int, cases: dict[str, Case]) -> None:
    """One rounding in 256: sums in another order differ by it, and a step's loss by far less."""
    for found in told(tmp_path, ranks, cases)["cases"].values():
        assert 0 < found["loss"] < 4e-3 and found["gradients"] < 5e-2 and found["tokens"] and found["audit"], found


@pytest.mark.parametrize("name", TWO)
def test_what_is_sent_is_what_the_papers_count(two: dict, name: str) -> None:
    demand_counted(two["cases"][name], TWO[name])


@pytest.mark.wide
def test_checkpoints_of_four_ranks_go_on_on_other_meshes(tmp_path: Path) -> None:
    assert (
        max(
            told(
                tmp_path,
                4,
                {},
                [["shard4", "data_shard"], ["data_tensor", "pipeline_shard"], ["pipeline_shard", "alone"], ["alone", "shard4"]],
            )["ways"]
        )
        < 1e-5
    )


def test_a_mesh_of_one_asks_nobody() -> None:
    assert ALONE.sums({"a": 0.1}) == {"a": 0.1} and ALONE.any([True, False]) == [True, False] and ALONE.apart({"a": torch.ones(1)}) == 0
    assert ALONE.rows == ALONE.turn == (0, 1) and ALONE.first and not ALONE.many and str(ALONE) == "{}" and not Mesh({"data": 1}).many


@pytest.mark.parametrize(
    ("said", "as_what"), [("[gloo/pair.cc] Connection closed by peer", StepFailed), ("a fault of our own", RuntimeError)]
)
def test_a_process_that_goes_while_a_mesh_is_made_is_told(monkeypatch: pytest.MonkeyPatch, said: str, as_what: type) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr("bloomery.train.mesh.Mesh", broken)
    with pytest.raises(as_what) as told:
        met({"data": 2})
    assert (as_what is StepFailed) == ("while {data: 2} is laid out" in str(told.value)) and said in str(told.value)


def test_rows_are_divided_in_order_and_filled_up(tmp_path: Path) -> None:
    run = laid_rows(tmp_path, (0, 1))
    whole = torch.cat([micro.inputs for micro in run])
    for of in (2, 3, 4):
        parts = [laid_rows(tmp_path, (at, of)) for at in range(of)]
        assert len({len(part) for part in parts}) == 1 and len({micro.inputs.shape for part in parts for micro in part}) == 1
        rows = torch.cat([micro.inputs for part in parts for micro in part])
        weights = torch.cat([micro.weights for part in parts for micro in part])
        documents = torch.cat([micro.documents for part in parts for micro in part])
        assert torch.equal(rows[: len(whole)], whole)
        assert not weights[len(whole) :].any() and bool((documents[len(whole) :] == -1).all())


def laid_rows(folder: Path, part: tuple[int, int]) -> list[Batch]:
    if not (folder / "data").exists():
        shards(folder / "data")
    run = laid(folder, ALONE)
    run.feed.part = part
    return run.feed.next(Clock(0, 0, run.batch, None))


def test_stretches_lie_side_by_side(tmp_path: Path) -> None:
    micro = laid_rows(tmp_path, (0, 1))[0]
    parts = [stretch(micro, at, 4) for at in range(4)]
    for name, column in vars(micro).items():
        assert torch.equal(torch.cat([getattr(part, name) for part in parts], 1), column)


def test_bits_tell_tensors_apart() -> None:
    one = torch.randn(3000)
    assert int(bits(one)) == int(bits(one.clone()))
    other = one.clone()
    other[[5, 9]] = other[[9, 5]]
    assert int(bits(one)) != int(bits(other)) and int(bits(torch.zeros(4))) != int(bits(-torch.zeros(4)))


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    shards(tmp_path / "data")
    found = []
    for rate in (1e-2, 1.01e-2):
        run = laid(tmp_path, ALONE, rate=rate)
        run.checkpoints.folder = tmp_path / str(rate)
        train(run)
        weights = {name: t.clone() for name, t in run.optimizer.weights().items()}
        found.append({"curve": figures(run), "weights": weights, "gradients": weights})
    with pytest.raises(AssertionError):
        demand_equal({**apart(*found), "tokens": True, "audit": True})
