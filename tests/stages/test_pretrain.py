"""The pretrain stage: artifact, checks, forecast, knobs, and the same result after kills at any instant."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from nursery import Nursery
from small_pretrain import curve, job, made, stage

from bloomery.core import catalog
from bloomery.core.errors import BadInput, CheckFailed, Interrupted
from bloomery.core.job import Forecast, Job
from bloomery.core.machine import Machine
from bloomery.core.signals import Signals
from bloomery.core.store import Artifact
from bloomery.data.shards import write_shards
from bloomery.stages import _forecast, _training
from bloomery.stages.pretrain import Pretrain
from bloomery.train import timing
from bloomery.train.metrics import MEASURED

pytestmark = pytest.mark.usefixtures("one_thread")


def test_writes_a_model_that_reads_back_and_learned(tokens: Path, tmp_path: Path) -> None:
    work = made(tokens, tmp_path)
    files = {"model.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "curve.jsonl"}
    assert {path.name for path in work.out.iterdir()} == files
    facts = work.facts
    assert facts["tokens"] == 1920 and facts["steps"] == 30 and len(facts["weights_sha256"]) == 64
    rows = curve(tmp_path)
    assert [row["step"] for row in rows] == list(range(1, 31)) and [r["step"] for r in rows if "heldout_bpb" in r] == [7, 14, 21, 28, 30]
    measured = [row["heldout_bpb"] for row in rows if "heldout_bpb" in row]
    assert measured[-1] < measured[0] and facts["heldout_bits_per_byte"] == measured[-1]
    json.dumps(facts)


def test_a_changed_weight_fails_the_check(tokens: Path, tmp_path: Path) -> None:
    from bloomery.nn.saving import load, save

    work = made(tokens, tmp_path)
    net = load(work.out)
    net.norm.weight.data[0] += 1e-6
    save(net, work.out)
    (work.out / "card.json").write_text(json.dumps({"facts": work.facts}))
    again = job(tmp_path / "again")
    stage(tokens).check(work.out, again)
    with pytest.raises(CheckFailed, match="weights read back"):
        again.demand()


def test_killed_at_any_instant_the_result_is_the_same(tokens: Path, tmp_path: Path, nursery: Nursery) -> None:
    whole = made(tokens, tmp_path / "whole")
    draw, kills = random.Random(), 0
    log = tmp_path / "parts" / "work" / "log.jsonl"
    while True:
        before = log.read_text().count('"checkpoint"') if log.exists() else 0
        process = nursery.start("small_pretrain:killed", str(tokens), str(tmp_path / "parts"))
        while kills < 3 and process.poll() is None:
            if log.exists() and log.read_text().count('"checkpoint"') > before + 2:
                time.sleep(draw.random() * 0.05)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
        out = process.communicate()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, out
        kills += 1
    assert kills >= 1
    assert (tmp_path / "parts/out/model.safetensors").read_bytes() == (whole.out / "model.safetensors").read_bytes()
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")


def test_stops_when_asked_and_goes_on(tokens: Path, tmp_path: Path) -> None:
    whole = made(tokens, tmp_path / "whole", checkpoint_steps=0)
    signals = Signals()
    signals.stopping = True
    with pytest.raises(Interrupted):
        stage(tokens, checkpoint_steps=0).run(job(tmp_path / "parts", signals))
    assert not (tmp_path / "parts/out/model.safetensors").exists()
    assert made(tokens, tmp_path / "parts", checkpoint_steps=0).facts["weights_sha256"] == whole.facts["weights_sha256"]


def emptied(tokens: Path, folder: Path, part: str) -> Path:
    """The tokens artifact with one part that holds no document."""
    shutil.copytree(tokens, folder)
    shutil.rmtree(folder / part)
    write_shards(folder / part, [], 300)
    return folder


def test_nothing_held_out_is_trained_and_checked_on_training_rows(tokens: Path, tmp_path: Path) -> None:
    work = made(emptied(tokens, tmp_path / "data", "heldout"), tmp_path)
    assert [name for name, value in work.facts.items() if value is None] == ["heldout_sample_bits_per_byte", "heldout_bits_per_byte"]
    assert not any("heldout_bpb" in row for row in curve(tmp_path)) and len(curve(tmp_path)) == 30
    checks = {one["name"]: one["note"] for one in work.checks}
    assert "nothing is held out" in checks["training bits per byte, read back against trained"]
    with_held_out = made(tokens, tmp_path / "other")
    assert with_held_out.facts["weights_sha256"] == work.facts["weights_sha256"]
    assert with_held_out.facts["heldout_sample_bits_per_byte"] > 0


def test_a_folder_from_outside_needs_no_card(tokens: Path, tmp_path: Path) -> None:
    folder = tmp_path / "outside"
    shutil.copytree(tokens, folder)
    (folder / "card.json").write_text("{}")
    for name in ("tokenizer_config.json", "heldout/documents.parquet", "heldout/tokens-00000.npy"):
        (folder / name).unlink()
    (folder / "heldout").rmdir()
    work = made(folder, tmp_path)
    assert json.loads((work.out / "model.json").read_text())["vocab"] == 300
    assert json.loads((work.out / "tokenizer_config.json").read_text())["bos_token"] == "<|bos|>"


def test_data_without_anything_to_train_on_is_one_sentence(tokens: Path, tmp_path: Path) -> None:
    nothing = emptied(tokens, tmp_path / "nothing", "train")
    missing = emptied(tokens, tmp_path / "missing", "train")
    shutil.rmtree(missing / "train")
    for folder, said in ((nothing, "no token to train on"), (missing, "no train/ shards")):
        with pytest.raises(BadInput, match=f"^data: .*{said}; name a folder"):
            stage(folder).run(job(tmp_path / said[:8]))
    with pytest.raises(BadInput, match=r"no tokenizer\.json"):
        replace(stage(tokens), data=Artifact("1" * 64, tmp_path, {})).run(job(tmp_path / "words"))


def test_a_lost_curve_is_said_and_does_not_stop_the_stage(tokens: Path, tmp_path: Path) -> None:
    made(tokens, tmp_path)
    (tmp_path / "work" / "curve.jsonl").unlink()
    again = made(tokens, tmp_path)
    assert again.facts["tokens_per_second"] > 0 and curve(tmp_path) == []
    assert "lost 30 of its 30 steps" in (tmp_path / "work" / "log.jsonl").read_text()


def test_a_failing_compiler_stops_the_stage_and_its_address_says_what_ran(
    tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bloomery.train import compiled

    monkeypatch.setattr(compiled, "compiler", lambda: "/usr/bin/g++")
    monkeypatch.setattr(compiled, "rehearse", lambda *_: 1 / 0)
    one = stage(tokens, compile="on")
    assert one.mode()["compile"] is True
    with pytest.raises(BadInput, match=r"could not be compiled.*--set lm\.compile=off"):
        one.run(job(tmp_path))
    assert not (tmp_path / "work" / "checkpoints").exists()
    knob = catalog.find("stage", "pretrain", "here").knobs["compile"]
    assert [knob.construct(knob.validate(value, "here")) for value in ("off", "auto", False, True)] == ["off", "auto", False, True]
    assert stage(tokens, compile=False).mode()["compile"] is False


def test_forecast_counts_what_is_then_measured(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "timed", lambda func, args, kwargs: 1e-6 + timing.traffic((args, kwargs)) / 1e10)
    monkeypatch.setattr(_forecast, "memory_free", lambda: 1e12)  # or a busy machine would measure the compiler's process
    machine = Machine("test", 2, 8 << 30, True, {"float32": 1e11, "bfloat16": 4e11}, effort="usual")
    one = stage(tokens, width=192, layers=6, heads=3, ffn=512, context=512, tokens=2_000_000, batch=4096, compile="auto")
    said = one.forecast({"data": Forecast(facts={"vocab": 4096})}, machine)
    assert said.facts["parameters"] == 3_443_136 and said.facts["tokens"] >= 2_000_000
    assert said.facts["flops"] == pytest.approx(6 * (3_443_136 - 13 * 192) * said.facts["tokens"] + 36 * 192 * 512 * said.facts["tokens"])
    assert 10 < said.seconds < 3600 and 5e8 < said.memory < 4e9 and said.disk > 4 * said.facts["parameters"]
    assert set(one.mode()) == {"precision", "compile", "threads"}


def test_a_view_with_more_marks_than_spare_tokens_is_refused_beforehand(tokens: Path) -> None:
    machine = Machine("test", 2, 8 << 30, True, {"float32": 1e11, "bfloat16": 4e11}, effort="usual")
    with pytest.raises(BadInput, match="view: Masked needs 1 spare tokens and the vocabulary has 0; say `spare: 1`"):
        stage(tokens, view="masked", causal=False).forecast({"data": Forecast(facts={"vocab": 300, "spare": 0})}, machine)


def test_light_to_import_and_bad_knobs() -> None:
    code = "import sys, bloomery.stages.pretrain as p; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'pyarrow')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    bad = (({"tokens": 0}, "tokens"), ({"width": 100, "heads": 3}, "multiple"), ({"rate": 0.0}, "rate"), ({"micro": -1}, "negative"))
    bad += (({"batch": 255}, "batch must be at least context"),)
    for knobs, said in bad:
        with pytest.raises(ValueError, match=said):
            Pretrain(None, **knobs)


@pytest.mark.parametrize("modules", [("sltrain",), ("mix_ln", "matformer"), ("moe",)])
def test_a_model_with_modules_is_read_back_as_it_was_trained(tokens: Path, tmp_path: Path, modules: tuple[str, ...]) -> None:
    one, work = stage(tokens, modules=modules), job(tmp_path)
    one.run(work)
    one.check(work.out, work)
    assert all(found["ok"] for found in work.checks), [found for found in work.checks if not found["ok"]]
    assert [next(iter(spec)) for spec in json.loads((work.out / "model.json").read_text())["modules"]] == list(modules)


def test_kept_activations_take_fewer_bytes_and_compiling_is_refused(tokens: Path, tmp_path: Path) -> None:
    assert made(tokens, tmp_path, saved="mesa").facts["saved_bytes"] > 0
    again, plain = made(tokens, tmp_path / "again", saved={"recompute": {"sites": ["mixer", "mlp"]}}), made(tokens, tmp_path / "plain")
    assert again.facts["weights_sha256"] == plain.facts["weights_sha256"]
    assert again.facts["saved_bytes"] < again.facts["saved_bytes_without"]
    with pytest.raises(BadInput, match="site by site"):
        stage(tokens, saved="mesa", compile="on").mode()


def test_an_encoder_needs_a_view_that_hides_what_it_predicts(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="the view shows what is to be predicted"):
        made(tokens, tmp_path, causal=False)


def test_roles_are_those_that_the_loss_reads(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="roles: the loss MiniLm reads teacher"):
        made(tokens, tmp_path / "a", loss="minilm")
    teacher = made(tokens, tmp_path / "teacher")
    folder = Artifact("2" * 64, teacher.out, {"facts": teacher.facts})
    assert made(tokens, tmp_path / "student", loss="minilm", roles={"teacher": folder}, layers=1).facts["final_loss"] > 0
    with pytest.raises(BadInput, match="reads no further model, and teacher differ"):
        made(tokens, tmp_path / "b", roles={"teacher": folder})


def test_a_run_goes_on_after_one_that_kept_its_state(tokens: Path, tmp_path: Path) -> None:
    def trained(name: str, steps: int, **knobs) -> Job:
        one, work = stage(tokens, schedule="constant", **knobs), job(tmp_path / name)
        replace(one, tokens=64 * steps).run(work)
        return work

    whole, first = trained("whole", 30), trained("first", 12, keep_state=True)
    after = Artifact("3" * 64, first.out, {"facts": first.facts})
    second = trained("second", 18, after=after)
    assert second.facts["weights_sha256"] == whole.facts["weights_sha256"] != first.facts["weights_sha256"]
    with pytest.raises(BadInput, match="holds no trainer state"):
        made(tokens, tmp_path / "third", after=Artifact("4" * 64, second.out, {"facts": second.facts}))


def test_guards_copies_and_trackers_leave_their_files(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bloomery.train import checkpoint, spikes

    real = spikes.Guard.limit
    monkeypatch.setattr(spikes.Guard, "limit", lambda self: -1.0 if len(self.losses) == 9 and not self.count else real(self))
    work = made(tokens, tmp_path, weights_every=10, checkpoints_kept=3, spikes="skip", stall_seconds=600.0)
    assert {path.name for path in work.out.iterdir()} >= {"spikes.jsonl", "weights", "curve.jsonl"} and work.facts["spikes"] == 1
    (leapt,) = map(json.loads, (work.out / "spikes.jsonl").read_text().splitlines())
    assert leapt["step"] == 10 and leapt["act"] == "skip" and all(name.startswith("train") for name in leapt["documents"])
    copies = checkpoint.Checkpoints(work.out / "weights", keep=0)
    assert [path.name[-2:] for path in sorted(copies.folder.iterdir())] == ["10", "20", "30"]
    weights, about = copies.newest()
    assert about == {"step": 30, "tokens": 1920} and "embed.weight" in weights and not any(name.startswith("state") for name in weights)
    assert len(list((tmp_path / "work" / "checkpoints").iterdir())) == 3
    (row, *_) = map(json.loads, (work.out / "curve.jsonl").read_text().splitlines())
    assert {*MEASURED, "bpb", "loss", "grad_norm", "rate"} - {"mfu"} <= set(row) and "mfu" not in row  # a machine is measured in a store


def test_trackers_are_told_numbers_and_names_alone(tokens: Path) -> None:
    from bloomery.stages._training import settings

    told = settings(stage(tokens, optimizer="muon", precision="float32"))
    assert told["optimizer"] == "Muon" and told["rate"] == 1e-2 and "data" not in told and "precision" not in told
    assert all(isinstance(value, int | float) or value.isidentifier() for value in told.values())


def test_knobs_of_guards_that_make_no_run() -> None:
    wrong = (
        ({"spikes": "back"}, "say `checkpoint_steps`"), ({"checkpoints_kept": 0}, "checkpoints_kept"),
        ({"spike_window": 2}, "spike_window"),
        ({"stall_seconds": -1.0}, "stall_seconds"), ({"report_to": ("wandb", "wandb")}, "twice"), ({"weights_every": -1}, "weights_every"),
    )  # fmt: skip
    for knobs, said in wrong:
        with pytest.raises(ValueError, match=said):
            Pretrain(None, **knobs)


def test_float8_is_refused_before_work_where_the_model_is_on_the_processor(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.train.float8.demand", lambda: None)
    with pytest.raises(BadInput, match=r"made on a GPU, and device is cpu; say bfloat16"):
        stage(tokens, precision="float8", device="cpu").mode()
    monkeypatch.setattr("bloomery.train.device._has_cuda", lambda: True)
    assert stage(tokens, precision="float8").mode().items() >= {"precision": "float8", "device": "cuda"}.items()


def test_further_fields_of_the_model(tokens: Path, tmp_path: Path) -> None:
    shape = {"qk_norm": True, "windows": [8, 0], "norm": "layer", "tied": False, "rope_scaling": {"kind": "linear", "factor": 2.0}}
    from bloomery.nn.saving import load

    net = load(made(tokens, tmp_path, model=shape).out)
    assert (net.cfg.qk_norm, net.cfg.norm, net.cfg.tied, net.cfg.rope_scaling.factor) == (True, "layer", False, 2.0)
    assert net.cfg.window(0) == 8 and net.cfg.window(1) == 0
    for wrong, said in (
        ({"qknorm": True}, "did you mean qk_norm"),
        ({"width": 8}, "a knob of the step itself"),
        ({"score_cap": "much"}, "model.score_cap"),
        ({"norm": "batch"}, "model.norm"),
        ({"encoder_layers": 2}, "no field"),
        ({"qk_norm_whole": True}, "qk_norm_whole: it changes nothing without qk_norm"),
        ({"rope_base": 5e5, "positions": "alibi"}, "rope_base: it changes nothing without positions rotary"),
        ({"norm_bias": False}, "without norm layer"),
        ({"local_rope_base": 1e4}, "without windows"),
        ({"dense_layers": [0]}, "without experts"),
    ):
        with pytest.raises(ValueError, match=said):
            Pretrain(None, model=wrong)
    assert Pretrain(None, model={"qk_norm_whole": True, "qk_norm": True, "rope_base": 1e4}).config(9).qk_norm_whole


def test_models_that_the_init_does_not_read_are_refused_by_the_plan() -> None:
    """The run would begin with random weights, whatever `start` names."""
    for init in ({"scaled_normal": {}}, {"mup": {}}, catalog.build_method("init", "scaled_normal")):
        with pytest.raises(ValueError, match="start: this init draws all weights and reads no model; say `init: stack`"):
            Pretrain(None, init=init, start=(None,))
    with pytest.raises(ValueError, match="texts: name one for each model of start"):
        Pretrain(None, init={"stack": {}}, start=(None,), texts=(None, None))
    assert Pretrain(None, init={"stack": {}}, start=(None,)).start == (None,)


def test_a_rehearsal_has_what_the_init_gives_the_model_and_the_optimizer(tokens: Path) -> None:
    from bloomery.stages._pretrain_begin import rehearsed

    one = stage(tokens, init="mup", width=32, heads=4)
    net, _, mover = rehearsed(one, one.config(300), "float32")
    assert net.cfg == one.init.shape(one.config(300)) != one.config(300)
    assert mover.factors is not None and mover.factors.shape == mover.master.shape


def test_the_peak_is_that_of_all_processes(tokens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are counted over all of them, and so must be what could be done."""
    monkeypatch.setattr(_training, "peak", lambda job, mode: 5e9)
    mesh = type("Four", (), {"many": False, "first": True, "size": 4})
    assert _training.kept(stage(tokens), job(tmp_path), {"precision": "float32"}, 1.0, mesh)["peak_flops"] == 2e10


def test_a_tracker_that_is_not_installed_ends_the_command_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from bloomery.cli.main import guarded
    from bloomery.train import trackers

    real = trackers.importlib.util.find_spec
    monkeypatch.delitem(sys.modules, "mlflow", raising=False)
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name, *more: None if name == "mlflow" else real(name, *more))
    recipe = str(Path(__file__).parents[2] / "recipes" / "quickstart.yaml")
    assert guarded(["run", recipe, "--store", str(tmp_path / "store"), "--set", "lm.report_to=[mlflow]"]) == 2
    assert "steps.lm: report_to: the package mlflow is missing" in capsys.readouterr().err
    assert not list((tmp_path / "store" / "artifacts").iterdir()) and not list((tmp_path / "store" / "work").iterdir())
