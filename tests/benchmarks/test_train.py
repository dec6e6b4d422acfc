"""The contest of training loops: what all contenders read, and the turns that they take."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
SCRIPT = """
from turns import Job, Turns, batches
import sys
turns, job = Turns(), Job.read(sys.argv[1])
print("noise")
for inputs, targets in batches(job):
    turns.next_step()
    turns.losses.append(float(inputs[0, 0]))
    turns.tokens.append(int((targets >= 0).sum()))
    if job.kind == "breaks":
        raise RuntimeError("this peer is broken")
"""


@pytest.fixture
def contest(monkeypatch: pytest.MonkeyPatch):
    """The benchmark's modules, whose names are as short as scripts may have them."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    import contenders.texts
    import contenders.turns

    spec = __import__("importlib.util").util.spec_from_file_location("contest", FOLDER / "train.py")
    module = __import__("importlib.util").util.module_from_spec(spec)
    sys.modules["contest"] = module
    spec.loader.exec_module(module)
    yield module, contenders.texts, contenders.turns
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("contest", "contenders"):
            del sys.modules[name]


def test_documents_are_padded_and_padding_is_no_target(contest) -> None:
    turns = contest[2]
    inputs, targets = turns.padded([np.array([1, 2, 3]), np.array([4, 5, 6, 7, 8])], 4)
    assert inputs.tolist() == [[1, 2, 0, 0], [4, 5, 6, 7]]
    assert targets.tolist() == [[2, 3, turns.IGNORED, turns.IGNORED], [5, 6, 7, 8]]


def test_random_rows_follow_a_permutation_half_the_time(contest, tmp_path: Path) -> None:
    _, texts, turns = contest
    texts.random_rows(tmp_path / "text.npz", 64, 3, 4, 256)
    job = turns.Job("", str(tmp_path / "text.npz"), "", 4, 256, 1, "cpu")
    steps = list(turns.batches(job))
    assert [one.shape for one, _ in steps] == [(4, 256)] * 3 and all((a[:, 1:] == b[:, :-1]).all() for a, b in steps)
    table = np.zeros((64, 64))
    for inputs, targets in steps:
        np.add.at(table, (inputs, targets), 1)
    assert 0.45 < (table.max(1).sum() / table.sum()) < 0.75


def test_contenders_take_turns_and_a_broken_one_is_named(contest, tmp_path: Path, monkeypatch, capsys) -> None:
    module, texts, turns = contest
    (tmp_path / "contenders").mkdir()
    for name in ("turns.py",):
        (tmp_path / "contenders" / name).write_text((FOLDER / "contenders" / name).read_text())
    (tmp_path / "contenders" / "bloomery_loop.py").write_text(SCRIPT)
    monkeypatch.setattr(module, "HERE", tmp_path)
    texts.random_rows(tmp_path / "text.npz", 64, 12, 2, 8)
    racers = [module.Contender(name, "bloomery_loop", kind) for name, kind in (("bloomery", ""), ("broken", "breaks"), ("matmul", ""))]
    job = turns.Job("", str(tmp_path / "text.npz"), "", 2, 8, 1, "cpu")
    through = module.run(racers, job, Path(sys.executable), tmp_path, 7, False)
    assert [one.name for one in through] == ["bloomery", "matmul"]
    assert "broken skipped: RuntimeError: this peer is broken" in capsys.readouterr().err
    for one in through:
        assert len(one.seconds) == 7 and one.tokens == [16] * 7 and one.memory > 0
        assert len(one.losses) == module.WARM + 7 and one.process.returncode == 0
    apart = module.report("train-toy", through, 1.0, busy=False, as_json=False)
    assert apart == {"bloomery": 0.0} and "| bloomery |" in capsys.readouterr().out


@pytest.mark.parametrize("mixed", [False, True])
def test_bloomery_itself_takes_its_turns(contest, tmp_path: Path, monkeypatch, mixed: bool) -> None:
    module = contest[0]
    monkeypatch.setitem(module.SHAPES, "toy", ((64, 16, 1, 2, 32), 32, 2))
    job, _ = module.begin("toy", False, "cpu", 1, 1, tmp_path)
    if mixed:
        lengths = np.full(40, 9)
        np.savez(tmp_path / "text.npz", ids=np.random.default_rng(0).integers(0, 64, lengths.sum()), lengths=lengths)
    through = module.run([module.Contender("bloomery", "bloomery_loop", "eager")], job, Path(sys.executable), tmp_path, 2, False)
    assert [one.name for one in through] == ["bloomery"], (tmp_path / "bloomery.err").read_text()
    assert len(through[0].losses) == module.WARM + 2 and 3.5 < through[0].losses[0] < 5
    assert through[0].tokens == [64] * 2 if not mixed else all(48 <= n <= 64 for n in through[0].tokens)
