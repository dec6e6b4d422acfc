"""Tasks of lm-eval found by name without reading all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("lm_eval")

from bloomery.infer.harness_index import definitions, includes, manager, members, mentioning, reached

FILES = {
    "one/task.yaml": "task: one\ndataset_path: json\n",
    "one/other.yaml": "task: one_more\ninclude: _shared\n",
    "one/_shared": "tag: [tagged]\noutput_type: generate_until\n",
    "two/group.yaml": "group: two\ntask:\n  - one\n  - task: three\n    num_fewshot: 2\n  - group: inner\n    task: [four]\n",
    "three/a/three.yaml": "task: three\n",
    "four/four.yaml": "task: four\ntag: tagged\n",
    "five/five.yaml": "task: five\ndescription: like one, unlike two\n",
    "six/one.yaml": "task: one\n",
    "seven/broken.yaml": "task: [one\n",
    "eight/all.yaml": "group: all_of_it\ntask: [one, five]\n",
}


@pytest.fixture
def root(tmp_path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ({"one"}, "one/task six/one"), ({"one_more"}, "one/other"), ({"three"}, "three/a/three"), ({"tagged"}, "four/four one/other"),
        ({"two"}, "four/four one/task six/one three/a/three two/group"), ({"nothing"}, ""), ({"five", "three"}, "five/five three/a/three"),
    ],
)  # fmt: skip
def test_the_files_of_names_of_members_and_of_tags(root, names, found):
    wanted = [root / f"{name}.yaml" for name in found.split()]
    assert sorted(definitions(names, root)) == wanted, "a mention is no definition"


def test_a_name_is_known_as_it_is_to_the_whole_index(root, monkeypatch):
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    whole = TaskManager(include_path=str(root), include_defaults=False)
    monkeypatch.setattr(lm_eval.tasks, "__file__", str(root / "__init__.py"))
    for name in ("one", "two", "tagged", "five", "all_of_it"):
        found = manager([name], None)
        for one in reached([name], found.task_index):
            if one in whole.task_index:
                assert found.task_index[one].yaml_path == whole.task_index[one].yaml_path, "of equal names the first"
        assert found.task_index[name].tags == whole.task_index[name].tags
        assert len(found.all_tasks) < len(whole.all_tasks)


def test_a_folder_of_ones_own_stands_above_and_needs_no_search(root, tmp_path_factory, monkeypatch):
    import lm_eval.tasks

    own = tmp_path_factory.mktemp("own")
    (own / "mine.yaml").write_text("task: mine\n")
    (own / "one.yaml").write_text("task: one\ndescription: mine\n")
    (own / "both.yaml").write_text("group: both\ntask: [mine, five]\n")
    monkeypatch.setattr(lm_eval.tasks, "__file__", str(root / "__init__.py"))
    assert set(manager(["both"], own).all_tasks) >= {"both", "mine", "five"}
    assert manager(["one", "three"], own).task_index["one"].yaml_path == own / "one.yaml"
    monkeypatch.setattr("bloomery.infer.harness_index.definitions", None)
    assert set(manager(["mine", "one"], own).all_tasks) == {"mine", "one", "both"}


def test_what_a_text_includes_is_searched_too(root):
    assert list(includes("include: a.yaml # the base\ntask: x\n")) == ["a.yaml"]
    assert list(includes("task: x\ninclude:\n  - a\n  - 'b'\nother: 1\n")) == ["a", "b"] and list(includes("include: [a, b]")) == ["a", "b"]
    circle = {root / "x.yaml": "include: y\n", root / "y.yaml": "task: y\n"}
    (root / "y").write_text("include: x.yaml\nname: zz\n")
    (root / "x.yaml").write_text("include: y\n")
    assert mentioning({"zz"}, circle) == {root / "x.yaml"} and mentioning({"task"}, circle) == {root / "y.yaml"}
    assert members({"task": ["a", {"task": "b"}, {"group": "c", "task": ["d"]}, 3]}) == {"a", "b", "c", "d"}
    assert members({"task": "x"}) == set()
