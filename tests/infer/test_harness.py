"""bloomery as a model of lm-evaluation-harness: the numbers of its own Hugging Face model, item by item."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install -c constraints.txt 'bloomery[lm-eval]'")
from small_harness import TASKS, write_model, write_tasks

from bloomery.core.errors import BadInput, Interrupted
from bloomery.data.journal import Journal
from bloomery.infer.harness import Harness
from bloomery.infer.harness_tasks import SEED, Wanted, measured, opened, rows_of
from bloomery.infer.model import load
from bloomery.seams import Rng

NAMES = tuple(TASKS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    import datasets

    root = tmp_path_factory.mktemp("harness")
    datasets.config.HF_DATASETS_CACHE = root / "cache"
    (root / "tasks").mkdir()
    return write_tasks(root / "tasks")


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def model(request, tmp_path_factory) -> Path:
    return write_model(tmp_path_factory.mktemp(request.param) / "model", request.param)


def theirs(model: Path, wanted: Wanted, batch: int) -> dict:
    """What lm-eval finds with transformers."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=str(model), device="cpu", dtype="float32", batch_size=batch)
    how = {"bootstrap_iters": 0, "apply_chat_template": wanted.chat, "fewshot_as_multiturn": wanted.chat}
    return evaluate(lm, opened(wanted), limit=wanted.limit, **how)


@pytest.mark.parametrize("chat", [False, True], ids=["plain", "chat"])
def test_every_reply_and_every_figure_is_that_of_the_hugging_face_model(model, folder, chat):
    wanted = Wanted(NAMES, folder, chat=chat)
    ours = {one.name: one for one in measured(Harness(load(model), rows=3), wanted)}
    found = theirs(model, wanted, 4)
    assert set(ours) == set(found["samples"]) == set(NAMES)
    cut = 0
    for name, one in ours.items():
        for metric, value in one.whole.items():
            wanted_value = found["results"][name][metric if "," in metric else f"{metric},none"]
            assert value == pytest.approx(wanted_value, rel=1e-5), (name, metric)
        for sample in found["samples"][name]:
            item = one.items[str(sample["doc_id"])]
            for asked, arguments, replies in zip(item["requests"], sample["arguments"], sample["resps"], strict=True):
                assert asked["arguments"] == list(arguments)
                cut += asked["dropped"] > 0
                if name == "written":
                    assert asked["reply"] == replies[0]
                elif name == "texts":
                    assert asked["logp"] == pytest.approx(replies[0], rel=1e-5)
                else:
                    assert asked["logp"] == pytest.approx(replies[0][0], abs=2e-4) and asked["greedy"] == replies[0][1]
    assert cut > 10, "some questions were to be cut at the left"
    assert any(request["reply"] for item in ours["written"].items.values() for request in item["requests"])


def test_shots_and_limit_are_those_asked_for_and_examples_are_drawn_with_the_same_seed(model, folder):
    wanted = Wanted(("choices", "letters"), folder, shots=1, limit=3)
    one, letters = measured(Harness(load(model)), wanted)
    assert len(one.items) == 3 and one.shots == 1 and one.items["0"]["requests"][0]["arguments"][0].count("Q:") == 2
    assert letters.shots == 0, "a task that wants no examples gets none"
    again = measured(Harness(load(model)), wanted)[0]
    assert again.items == one.items and SEED == 1234


def test_the_same_at_any_number_side_by_side(model, folder):
    found = [measured(Harness(load(model), rows=rows), Wanted(("written", "choices"), folder)) for rows in (1, 5)]
    for one, other in zip(*found, strict=True):
        assert one.whole == other.whole and one.values == other.values


def test_no_request_is_asked_twice_however_often_it_is_stopped(model, folder, tmp_path, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr("bloomery.infer.harness.SCORED_TOGETHER", 700)
    for verb in ("_scored", "_rolling", "_written"):
        whole = getattr(Harness, verb)
        monkeypatch.setattr(Harness, verb, lambda self, keys, some, whole=whole: asked.extend(keys) or whole(self, keys, some))
    plain = measured(Harness(load(model), rows=2), Wanted(NAMES, folder))
    once, stops, file = sorted(asked), 0, tmp_path / "requests.jsonl"
    asked.clear()
    while True:
        done: list[int] = []
        lm = Harness(load(model), Journal(file), rows=2, stopping=lambda done=done: done.append(1) or len(done) > 9)
        try:
            found = measured(lm, Wanted(NAMES, folder))
            break
        except Interrupted:
            stops += 1
    assert stops > 3 and sorted(asked) == once == sorted(json.loads(line)["id"] for line in file.read_text().splitlines())
    assert [one.whole for one in found] == [one.whole for one in plain]


def test_paths_of_a_task_are_those_of_its_folder_and_all_others_stay_where_they_are(model, folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    Path("requests.jsonl").unlink(missing_ok=True)
    relative = Wanted(("cloze",), Path(folder.name), limit=2)
    assert len(measured(Harness(load(model), Journal(Path("requests.jsonl"))), relative)[0].items) == 2
    assert (folder.parent / "requests.jsonl").is_file() and not (folder / "requests.jsonl").exists()


def test_what_is_asked_again_alone_is_the_same(model, folder):
    lm = Harness(load(model), rows=4)
    for one in measured(lm, Wanted(NAMES, folder, limit=3)):
        for item in one.items.values():
            for request in item["requests"]:
                assert max(lm.again(json.loads(json.dumps(request)))) < 1e-4
    off = {**request, "logp": request["logp"] - 9.0} if "logp" in request else {**request, "ids": [5, *request["ids"][1:]]}
    assert max(lm.again(off)) > 1e-3


def test_rows_have_intervals_and_clean_twins(model, folder):
    for one in measured(Harness(load(model)), Wanted(NAMES, folder)):
        rows = rows_of(one, {"0", "3"}, Rng((1,)), "model", "")
        assert {row["metric"] for row in rows} == set(one.whole)
        for row in rows:
            assert row["low"] <= row["value"] <= row["high"] and row["contaminated"] == 2 and row["n"] == 12
            rest = [value for key, value in zip(one.items, one.values[row["metric"]], strict=True) if key not in ("0", "3")]
            assert row["clean"] == pytest.approx(one.together[row["metric"]](rest))


def test_a_share_of_which_all_items_are_alike_is_not_certain(model, folder):
    (one,) = measured(Harness(load(model)), Wanted(("letters",), folder))
    for right in (0.0, 1.0):
        one.values["acc"], one.whole["acc"] = [right] * 12, right
        (row,) = rows_of(one, {"0"}, Rng((1,)), "model", "")
        width = 3.8415 / (12 + 3.8415)  # z^2 / (n + z^2), the far end of Wilson's interval
        assert (row["low"], row["high"]) == pytest.approx((0.0, width) if not right else (1 - width, 1.0), abs=1e-4)
        assert row["clean_high"] - row["clean_low"] > width
    (row,) = rows_of(replace(one, values={"acc": [2.0] * 12}, whole={"acc": 2.0}), set(), Rng((1,)), "model", "")
    assert row["low"] == row["high"] == 2.0, "what is no share keeps lm-eval's own sum"


def test_an_unfinished_message_ends_where_the_model_goes_on(model):
    from lm_eval.models.huggingface import HFLM

    lm, other = Harness(load(model)), HFLM(pretrained=str(model), device="cpu", dtype="float32")
    for final in ("The answer is", "The answer is ", " so:\n"):
        said = [{"role": "user", "content": "red?"}, {"role": "assistant", "content": final}]
        assert lm.apply_chat_template(said, False) == other.apply_chat_template(said, False)
    said = [{"role": "user", "content": "<|eos|> red"}]
    text = lm.apply_chat_template(said)
    assert text == other.apply_chat_template(said) and lm.tok_encode(text) == other.tok_encode(text)


def test_what_cannot_be_asked_is_refused_in_a_sentence(model, folder, tmp_path, monkeypatch):
    import lm_eval.tasks

    few = lm_eval.tasks.TaskManager  # thousands of files are read otherwise
    monkeypatch.setattr(lm_eval.tasks, "TaskManager", lambda **how: few(**{**how, "include_defaults": False}))
    lm = Harness(load(model))

    def ask(**how):
        request = SimpleNamespace(args=("red", {"until": ["\n"], "max_gen_toks": 4, **how}), task_name="t")
        return lm.generate_until([request])

    assert len(ask()) == 1
    assert ask(do_sample=True, temperature=0.7, top_p=0.9) == ask(do_sample=True, temperature=0.7, top_p=0.9)
    with pytest.raises(BadInput, match="max_gen_toks"):
        ask(max_gen_toks=96)
    with pytest.raises(BadInput, match="num_beams=4"):
        ask(num_beams=4)
    with pytest.raises(BadInput, match=r"no task .choises.*choices"):
        opened(Wanted(("choises",), folder))
    (tmp_path / "lost.yaml").write_text((folder / "cloze.yaml").read_text().replace("cloze", "lost"))
    with pytest.raises(BadInput, match="lost cannot be opened"):
        opened(Wanted(("lost",), tmp_path))
    far = "task: far\ndataset_path: nobody/nothing\noutput_type: loglikelihood\ntest_split: test\ndoc_to_text: ''\ndoc_to_target: ''\n"
    (tmp_path / "far.yaml").write_text(far)
    with pytest.raises(BadInput, match=r"data of far is not here and cannot be fetched .*lm_eval_folder") as told:
        opened(Wanted(("far",), tmp_path))
    assert "\n" not in str(told.value)
    unsafe = (folder / "cloze.yaml").read_text().replace("task: cloze", "task: unsafe\nunsafe_code: true")
    (folder / "unsafe.yaml").write_text(unsafe)
    with pytest.raises(BadInput, match="sandbox"):
        opened(Wanted(("unsafe",), folder))
