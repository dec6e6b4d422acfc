from __future__ import annotations

import math

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.infer.model import load
from bloomery.seams import Episode, Grade, Item
from bloomery.tools.local import LocalTools, identity
from bloomery.tools.sandbox import Limits, Sandbox

TEXTS = ["def f(x):", "    return x + 1\n", "x", "größer 漢字", "a b c d e f g h i j k l m n o p q r s t u v w x y z " * 3]


def opened(models, cache, **more) -> LocalTools:
    return LocalTools({"teacher": models["big"], "default": models["small"]}, cache, **more)


def test_scores_are_the_models_own(models, tmp_path):
    model = load(models["big"])
    bos = model.ids["bos_token"]
    found = opened(models, tmp_path).score([("", text) for text in TEXTS], "teacher")
    for text, logp in zip(TEXTS, found, strict=True):
        ids = model.tokenizer.encode(text, add_special_tokens=False).ids
        assert logp == pytest.approx(model.score([[bos, *ids]])[0].tolist(), abs=1e-5) and len(logp) == len(ids)


def test_a_context_is_read_and_not_scored(models, tmp_path):
    tools = opened(models, tmp_path)
    (whole,), (rest, none) = tools.score([("", "def f(x): return x")]), tools.score([("def f(x):", " return x"), ("def", "")])
    assert 0 < len(rest) < len(whole) and rest == pytest.approx(whole[-len(rest) :], abs=1e-5) and none == ()
    assert rest != pytest.approx(tools.score([("", " return x")])[0])


def test_what_was_answered_is_not_computed_again(models, tmp_path, monkeypatch):
    first = opened(models, tmp_path)
    pairs = [("", text) for text in (*TEXTS, TEXTS[0])]
    scored, asked = first.score(pairs, "teacher"), first.ask(TEXTS[:3], limit=4)
    assert first.counts == {"score:teacher": {"calls": 6, "hits": 1}, "ask:default": {"calls": 3, "hits": 0}}
    assert scored[0] == scored[-1]
    again = opened(models, tmp_path)
    monkeypatch.setattr(LocalTools, "_score", None)
    monkeypatch.setattr(LocalTools, "_complete", None)
    assert again.score(pairs, "teacher") == scored and again.ask(TEXTS[:3], limit=4) == asked
    assert again.counts["score:teacher"] == {"calls": 6, "hits": 6}
    with pytest.raises(TypeError):
        again.score(pairs, "default")  # another model
    with pytest.raises(TypeError):
        again.ask(TEXTS[:3], limit=5)  # another sampling


def test_vectors_are_the_means_of_the_models_states(models, tmp_path, monkeypatch):
    from bloomery.infer.embed import pooled

    first, model = opened(models, tmp_path), load(models["big"])
    ids = [[model.ids["bos_token"], *model.tokenizer.encode(text, add_special_tokens=False).ids] for text in TEXTS]
    found = first.embed(TEXTS, "teacher")
    assert found.dtype == np.float32 and found == pytest.approx(pooled(model.net, ids), abs=1e-5)
    assert first.embed(TEXTS, "teacher", "mean") == pytest.approx(pooled(model.net, ids, "mean"), abs=1e-5)
    assert first.embed([], "teacher").shape == (0, 32) and first.embed([""], "default").shape == (1, 16)
    assert first.counts["embed:teacher"] == {"calls": 10, "hits": 0}
    again = opened(models, tmp_path)
    monkeypatch.setattr(LocalTools, "_embed", None)
    assert np.array_equal(again.embed(TEXTS, "teacher"), found), "written down bit for bit"
    with pytest.raises(TypeError):
        again.embed(TEXTS, "default", "mean")


def test_a_killed_batch_is_computed_whole_again(models, tmp_path, monkeypatch):
    """What is known never changes which questions are computed together, so a resumed run gives the very same digits."""
    monkeypatch.setattr("bloomery.tools.local.SCORED_TOGETHER", 20)
    pairs = [("", text) for text in TEXTS]
    whole = opened(models, tmp_path / "a").score(pairs)
    seen, real = [], LocalTools._score

    def dying(self, some, role):
        seen.append(len(some))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(self, some, role)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LocalTools, "_score", dying)
        opened(models, tmp_path / "b").score(pairs)
    assert opened(models, tmp_path / "b").score(pairs) == whole


def test_completions_do_not_depend_on_their_neighbours(models, tmp_path):
    tools = [opened(models, tmp_path / str(i)) for i in range(3)]
    greedy = tools[0].ask(TEXTS, limit=6, chat=False)
    assert [tools[1].ask([text], limit=6, chat=False)[0] for text in TEXTS] == greedy
    how = {"limit": 6, "temperature": 1.0, "chat": False}
    drawn = tools[0].ask(TEXTS, seed=1, **how)
    assert list(reversed(tools[2].ask(TEXTS[::-1], seed=1, **how))) == drawn
    assert drawn != tools[0].ask(TEXTS, seed=2, **how)
    assert greedy[-1].dropped > 0 and greedy[0].dropped == 0 and {one.ended for one in greedy} <= {"stop", "limit"}
    decoder = load(models["small"])
    prompt = [decoder.ids["bos_token"], *decoder.tokenizer.encode(TEXTS[0], add_special_tokens=False).ids]
    assert decoder.generate([prompt], limit=6)[0].text == greedy[0].text
    asked = decoder.generate([decoder.question([("user", TEXTS[0])])], limit=6)[0].text
    assert tools[0].ask(TEXTS[:1], limit=6)[0].text == asked != greedy[0].text


def test_programs_run_once_unless_time_ran_out(models, tmp_path, monkeypatch):
    tools = opened(models, tmp_path, sandbox=Sandbox(Limits(output=1000)))
    assert tools.run("print(open('a').read())", {"a": b"one"}).stdout == "one\n"
    late = tools.run("while True: pass", limit_s=0.3)
    assert late.reason == "time"
    monkeypatch.setattr(Sandbox, "run", lambda *_: late)
    assert tools.run("print(open('a').read())", {"a": b"one"}).ok and not tools.run("print(open('a').read())", {"a": b"two"}).ok
    assert tools.counts["run"] == {"calls": 4, "hits": 1, "out_of_time": 2}


def test_grades_are_the_tasks(models, tmp_path):
    with pytest.raises(BadInput, match="no task"):
        opened(models, tmp_path).grade(Item("i", "", "score"), Episode("e", "i"))
    tools = opened(models, tmp_path, grader=lambda item, episode: Grade(len(episode.text)))
    assert tools.grade(Item("i", "", "score"), Episode("e", "i", "abc")).score == 3


def test_what_is_not_there_is_said(models, tmp_path):
    tools = opened(models, tmp_path)
    with pytest.raises(BadInput, match="role 'teecher'; did you mean teacher"):
        tools.score([("", "x")], "teecher")
    for call, said in ((lambda: tools.sketch_grad(["x"], 3), "not offered yet"), (lambda: tools.search("x", 1), "no documents here")):
        with pytest.raises(BadInput, match=said):
            call()
    assert tools.score([]) == [] and tools.ask([]) == []


def test_a_model_is_known_by_its_content(models, tmp_path):
    assert identity(models["big"]) != identity(models["small"])
    (tmp_path / "card.json").write_text('{"address": "abc"}')
    assert identity(tmp_path) == "abc"
    assert all(math.isfinite(x) and x < 0 for x in opened(models, tmp_path / "c").score([("", "x")])[0])


def test_a_search_ranks_all_documents_by_the_angle_of_their_vectors(models, tmp_path):
    tools = opened(models, tmp_path)
    tools.library = {f"d{i}": text for i, text in enumerate(TEXTS)}
    vectors = tools.embed([*TEXTS, "def f(y):"], "teacher", "mean").astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    cosines = vectors[:-1] @ vectors[-1] / lengths[:-1] / lengths[-1]
    found = tools.search("def f(y):", 3, "teacher")
    assert [name for name, _ in found] == [f"d{i}" for i in np.argsort(-cosines)[:3]]
    assert [cosine for _, cosine in found] == pytest.approx(sorted(cosines, reverse=True)[:3], abs=1e-5)
    assert tools.search(TEXTS[3], 1, "teacher")[0] == ("d3", pytest.approx(1)) and len(tools.search("x", 99, "teacher")) == len(TEXTS)
    tools.library = {"only": "another"}
    assert tools.search("x", 2, "teacher")[0][0] == "only", "another library is another index"
