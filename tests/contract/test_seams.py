"""What every method of one seam keeps to: determinism, state, and use as a plain library."""

from __future__ import annotations

import json
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bloomery.core import catalog
from bloomery.core.rng import numpy_rng, python_rng, torch_rng
from bloomery.seams import Batch, Clock, Doc, Drop, Episode, Item, Pool, Rng, Source, Vocab
from bloomery.tools.sandbox import Sandbox

RNG = Rng((0, "contract"))
DOCS = [
    Doc(f"d{i}", text, {"path": f"{i}.py"})
    for i, text in enumerate(["def f(x):\n    return x\n" * 9, "", "é ñ 漢字 \U0001f600\n\n", "a b c d e f g\n" * 40, "\t# only\n"])
]


def of(seam: str):
    return pytest.mark.parametrize("name", list(catalog.entries(seam)))


def make(seam: str, name: str):
    return catalog.build_method(seam, name)


class Canned:
    """Tools that answer from the question alone; programs are run."""

    def score(self, pairs, role="default"):
        return [tuple(-((7 * ord(c) + len(role)) % 50) / 9 for c in text) for _, text in pairs]

    def ask(self, prompts, role="default", **sampling):
        said = ["\nremove_lines(line_start=0, line_end=0)", "\ndrop_doc()", "nonsense("]
        return [SimpleNamespace(text=said[len(prompt) % 3], ended="stop", dropped=0) for prompt in prompts]

    @cache  # noqa: B019 - one for the whole file
    def _ran(self, code, files):
        return Sandbox().run(code, dict(files))

    def run(self, code, files=None, limit_s=5):
        return self._ran(code, tuple(sorted((files or {}).items())))


CANNED = Canned()


def tools_for(method):
    """What a method that needs tools gets; others are handed None."""
    return CANNED if getattr(method, "needs", ()) else None


@of("signal")
def test_signals_depend_on_each_document_alone(name, tmp_path):
    (tmp_path / "some.jsonl").write_text("".join(json.dumps({"text": doc.text}) + "\n" for doc in DOCS))
    required = getattr(catalog.entries("signal")[name].load(), "required", ())  # documents to be trained on
    method = catalog.build_method("signal", {name: {knob: str(tmp_path / "some.jsonl") for knob in required}})
    together = {column: list(map(float, values)) for column, values in method.columns(DOCS, tools_for(method)).items()}
    assert together and all(len(values) == len(DOCS) for values in together.values())
    assert np.isfinite(np.array(list(together.values()))).all()
    for i, doc in enumerate(DOCS):
        assert {column: values[i] for column, values in together.items()} == {
            c: float(v[0]) for c, v in method.columns([doc], tools_for(method)).items()
        }


@of("edit")
def test_edits_are_deterministic_and_leave_their_input_alone(name):
    method = make("edit", name)
    for doc in DOCS:
        before = doc.text
        first, second = (method.edit(doc, tools_for(method), RNG) for _ in range(2))
        assert first == second and doc.text == before
        assert isinstance(first, Drop) or all(isinstance(one, Doc) for one in first)


@of("select")
def test_selections_are_deterministic(name):
    columns = {"id": [doc.id for doc in DOCS], "bytes": [len(doc.text.encode()) for doc in DOCS]}
    columns |= {"text": [doc.text for doc in DOCS], "domain": [*["pool"] * (len(DOCS) - 1), "target"]}
    columns |= {"preselect.strength": np.linspace(0, 1, len(DOCS))}
    needed = {"metaclip": {"entries": ["e", "a"]}}  # knobs without which a selection refuses to work
    method = catalog.build_method("select", {name: needed.get(name, {})})
    if "text" not in getattr(method, "reads", ()):
        del columns["text"]  # as curate does
    columns |= {need: np.eye(len(DOCS), 3, dtype=np.float32) for need in getattr(method, "needs", ())}
    first, second = (np.asarray(method.weigh(columns, 200, RNG)) for _ in range(2))
    assert (first == second).all() and len(first) == len(DOCS) and (first >= 0).all()


@of("optim")
def test_optimizers_are_deterministic_and_their_state_round_trips(name):
    method = make("optim", name)
    shape = (8, 6)
    g = torch_rng(RNG)
    grads = [torch.randn(shape, generator=g) for _ in range(4)]
    p = torch.randn(shape, generator=g)

    def run(interrupted: bool) -> torch.Tensor:
        q, s = p.clone(), method.init(p)
        for t, grad in enumerate(grads, 1):
            if interrupted:
                s = {key: torch.tensor(value.tolist(), dtype=value.dtype).reshape(value.shape) for key, value in s.items()}
            before = q.clone()
            d = method.direction(grad.clone(), q, s, t, RNG.child(t))
            assert torch.equal(q, before), "p is read-only"
            q = q - 0.01 * d
        return q

    assert torch.equal(run(False), run(True))


@of("optim")
def test_optimizers_work_in_any_torch_loop(name):
    from bloomery.train.as_torch import as_torch

    torch.manual_seed(0)
    method = make("optim", name)
    net = torch.nn.Linear(6, 1, bias=method.scope == "element")
    x, y = torch.randn(64, 6), torch.randn(64, 1)
    optimizer = as_torch(method, net.parameters(), rate=0.02)
    losses = []
    for _ in range(60):
        loss = torch.nn.functional.mse_loss(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@of("schedule")
def test_schedules_depend_on_the_clock_alone(name):
    method = make("schedule", name)
    clocks = [Clock(step, step * 100, 100, 10_000.0) for step in range(0, 101, 10)]
    assert [method.value(clock) for clock in clocks] == [method.value(clock) for clock in clocks]
    assert all(np.isfinite(method.value(clock)) for clock in clocks)
    assert np.isfinite(method.value(Clock(5, 500, 100, None)))


@of("batching")
def test_batching_resumes_exactly_from_its_json_state(name):
    method, draw = make("batching", name), numpy_rng(RNG)
    pool = Pool(draw.integers(2, 90, 40), 32, draw.integers(0, 2, 40), ("prose", "verse"))

    def plans(interrupted: bool) -> list:
        state, found = None, []
        for step in range(12):
            seen = {"heldout_nats/prose": 2.0, "heldout_nats/verse": 3.0 - 0.1 * (step // 3)}
            rows, state = method.plan(pool, state, Clock(step, step * 128, 128, None, seen), RNG)
            state = json.loads(json.dumps(state)) if interrupted else state
            found.append(rows)
        return found

    for rows in (found := plans(False)):
        sizes = [sum(stop - start for _, start, stop in row) for row in rows]
        assert rows and all(0 <= start < stop <= pool.lengths[document] for row in rows for document, start, stop in row)
        assert max(sizes) <= pool.row
    assert found == plans(True)


@of("view")
def test_views_give_equally_long_columns_and_keep_to_their_room(name):
    method = make("view", name)
    vocab = Vocab(400, 0, 1, 2, tuple(range(300, 300 + getattr(method, "marks", 0))))
    for n in (1, 2, 5, 20, 96):
        ids = [10 + i % 50 for i in range(n)]
        room = method.room(n - 1) if hasattr(method, "room") else n - 1
        made = [method.view(ids[: room + 1], None, vocab, Clock(0, 0, 1, None), RNG.child(turn)) for turn in range(8)]
        for samples in made:
            for sample in samples:
                assert len({len(sample[key]) for key in ("inputs", "targets", "weights", "positions")}) == 1
                assert max(*sample["inputs"], *sample["targets"]) < vocab.size
            assert sum(len(sample["inputs"]) for sample in samples) <= max(n - 1, 0)
        again = [method.view(ids[: room + 1], None, vocab, Clock(0, 0, 1, None), RNG.child(turn)) for turn in range(8)]
        assert str(made) == str(again)


@of("filter")
def test_filters_are_deterministic_and_keep_a_choice(name):
    method = make("filter", name)
    logits = torch.randn(3, 50, generator=torch_rng(RNG))
    seen = {read: logits.clone() for read in method.reads}
    first, second = method.filter(torch.zeros(3, 4, dtype=torch.long), seen), method.filter(torch.zeros(3, 4, dtype=torch.long), seen)
    assert torch.equal(first, second) and first.shape == logits.shape
    assert torch.isfinite(torch.softmax(first, -1)).all()


def net_of(seed: int):
    """A tiny float32 decoder over 64 tokens."""
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer

    return Transformer(Config(64, 16, 2, 2, 1, 24, 32), RNG.child("net", seed))


def batch_of(rows: int = 4, tokens: int = 12) -> Batch:
    """Rows of two pieces each, with padding and weights that differ from row to row."""
    draw = torch_rng(RNG.child("batch"))
    inputs, targets = (torch.randint(0, 64, (rows, tokens), generator=draw) for _ in range(2))
    weights = torch.rand(rows, tokens, generator=draw)
    place = torch.arange(tokens).expand(rows, tokens)
    padded, second = place >= tokens - torch.arange(rows)[:, None], place >= tokens // 2
    weights[padded] = 0
    positions = torch.where(second, place - tokens // 2, place)
    return Batch(inputs, targets, weights, positions, torch.where(padded, -1, second.long()))


def part(batch: Batch, begin: int, stop: int) -> Batch:
    return Batch(**{name: column[begin:stop] for name, column in vars(batch).items()})


@of("loss")
def test_losses_are_sums_whose_parts_add_up_over_known_denominators(name):
    from bloomery.nn.modules import fit

    method, whole = make("loss", name), batch_of()
    roles = {role: net_of(i) for i, role in enumerate(method.roles)}
    fit(roles["net"], [make("module", "moe")], RNG)  # so that there is something to tell a loss that asks
    roles |= method.parts(roles["net"], RNG) if hasattr(method, "parts") else {}
    seen = method.look(roles, whole, RNG) if hasattr(method, "look") else {}
    halves = part(whole, 0, 2), part(whole, 2, 4)
    weights, first, again = method.weigh(whole), method.terms(roles, whole, seen, RNG), method.terms(roles, whole, seen, RNG)
    split = [method.terms(roles, half, seen, RNG) for half in halves]
    assert weights and weights.keys() == first.keys() and all(np.isfinite(list(weights.values())))
    for term, total in first.items():
        assert total.ndim == 0 and torch.isfinite(total) and torch.equal(total, again[term])
        assert sum(one[term].item() for one in split) == pytest.approx(total.item(), rel=1e-5)
        assert sum(method.weigh(half)[term] for half in halves) == pytest.approx(weights[term], rel=1e-6)
    sum(first.values()).backward()
    trained = {"net", *roles} - (set(method.roles) - {"net"})
    grads = [p.grad for role in trained for p in roles[role].parameters()]
    assert all(grad is not None and torch.isfinite(grad).all() for grad in grads)


@of("backward")
def test_accumulated_gradients_are_those_of_the_whole_batch(name):
    from bloomery.methods.loss.cross_entropy import CrossEntropy

    method, loss, whole = make("backward", name), CrossEntropy(), batch_of()
    weight = loss.weigh(whole)["tokens"]

    def grads(size: int) -> tuple[dict, list]:
        net = net_of(0)
        micros = [part(whole, i, i + size) for i in range(0, 4, size)]
        numbers = method.backward(net, micros, lambda net, micro: loss.terms({"net": net}, micro, {}, RNG)["tokens"] / weight, RNG)
        found = [p.grad for p in net.parameters()]
        if hasattr(method, "transform"):
            numbers = {**numbers, **method.transform(found)}
        return numbers, found

    numbers, wanted = grads(4)
    assert numbers["loss"] > 0 and np.isfinite(list(numbers.values())).all()
    again = grads(4)
    assert again[0] == numbers and all(map(torch.equal, again[1], wanted))
    for size in (1, 2):
        split, found = grads(size)
        assert split == pytest.approx(numbers, rel=1e-5)
        for a, b in zip(found, wanted, strict=True):
            assert (a - b).norm() <= 1e-5 * b.norm()


@of("saved")
def test_kept_activations_come_back_in_shape_and_type_and_near_enough(name):
    from bloomery.methods.loss.cross_entropy import CrossEntropy
    from bloomery.seams import Site
    from bloomery.train.saved import saving

    method, site = make("saved", name), Site("mixer", "blocks.0.mixer", 0, 2)
    for dtype in (torch.float32, torch.bfloat16):
        t = torch.randn(3, 5, 32, generator=torch_rng(RNG)).to(dtype)
        first, again = (method.unpack(method.pack(t, site)) for _ in range(2))
        assert torch.equal(first, again) and first.shape == t.shape and first.dtype == dtype
        assert (first - t).norm() <= 0.1 * t.norm()

    def grads(method) -> tuple[float, torch.Tensor]:
        net = net_of(0)
        with saving(net, method) as watch:
            CrossEntropy().terms({"net": net}, batch_of(16, 32), {}, RNG)["tokens"].backward()
        assert watch.peak_bytes < watch.plain_bytes or method is None
        return watch.peak_bytes, torch.cat([p.grad.flatten() for p in net.parameters()])

    (kept, found), (plain, wanted) = grads(method), grads(None)
    assert kept < plain and (found - wanted).norm() <= 0.1 * wanted.norm()


@pytest.fixture(scope="module")
def held_out() -> Source:
    """A tokenizer, Python files long enough to be cut, each in a package of its own or of two, and conversations about functions."""
    from bloomery.data.tokenizer import learn

    body = ["import os", "", "def area(w, h):", "    size = w * h", "    return size", "", "class Shape:", "    sides = 4", ""]
    texts = ["\n".join(line.replace("4", str(i)) for line in body * 4) for i in range(8)]
    docs = [Doc(f"d{i}", text, {"path": f"{i}.py", "package": f"p{i // 2}"}) for i, text in enumerate(texts)]
    chats = []
    for i in range(12):
        kind, plain = ("body", "docstring", "signature")[i % 3], f'def size_{i}(w):\n    """Give {i}."""\n'
        answer = {"body": f"    return {i}", "docstring": f"Give {i}.", "signature": f"def size_{i}(w):"}[kind]
        about = {"messages": (("user", plain),), "plain": plain, "kind": kind, "package": f"p{i % 2}"}
        chats.append(Doc(f"c{i}", answer, about))
    net = SimpleNamespace(cfg=SimpleNamespace(context=512, vocab=290))
    tokenizer = learn(texts * 3, 290)
    tokenizer.question = lambda messages: tokenizer.encode("".join(content for _, content in messages))
    trained = [Doc(f"t{i}", text.replace("area", "room"), {"package": f"q{i // 2}"}) for i, text in enumerate(texts)]
    return Source(net, tokenizer, docs, chats, trained, QUESTIONS)


QUESTIONS = {
    "choices": [{"question": f"{i} + 1 =", "choices": [str(i), str(i + 1)], "answer": 1} for i in range(6)],
    "gaps": [{"context": f"return size {i} of the", "ending": "class"} for i in range(6)],
    "functions": [
        {"prompt": f"def f(x):\n    return x + {i} -", "canonical_solution": " 0", "test": f"def check(f):\n    assert f(1) == {1 + i}",
         "entry_point": "f"} for i in range(4)
    ],
    "programs": [{"text": f"Add {i}.", "code": f"def g(x): return x + {i}", "test_list": [f"assert g(0) == {i}"]} for i in range(7)],
    "puzzles": [
        {"name": f"Add{i}:0", "sat": f"def sat(x: int):\n    return x + {i} == 7", "ans_type": "int", "sol_header": "def sol():",
         "sol_bodies": [f"    return {7 - i}"]} for i in range(6)
    ],
    "examples": [
        {"entry_point": "h", "code": f"def h(x):\n    return x + {i}", "examples": [[f"h({x})", str(x + i)] for x in range(4)],
         "tests": [["h(9)", str(9 + i)]]} for i in range(3)
    ],
    "rules": [
        {"key": i, "prompt": f"Say {i}.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]} for i in range(4)
    ],
    "tables": [
        {"question": f"Which is {i}?", "SQL": f"SELECT a FROM t WHERE a = {i}", "schema": "CREATE TABLE t (a);",
         "data": "INSERT INTO t VALUES (1);"}
        for i in range(2)
    ],
    "long": [
        {"input": f"What is {i}?", "context": "word " * 9, "answers": [f"it is {i}"], "dataset": "qasper", "length": 9} for i in range(3)
    ],
    "uses": [
        {"module": "m", "old": "def f(x): return x", "new": "def f(*, y): return y", "about": f"Give {i}.", "legacy": f"m.f({i})",
         "updated": f"m.f(y={i})", "group": str(i)} for i in range(2)
    ],
    "queries": [{"query": f"what is number {i}", "gold_ids": [str(i)], "excluded_ids": ["N/A"]} for i in range(3)],
    "texts": [{"id": str(i), "content": f"this is number {i}"} for i in range(6)],
    "written": [{"text": f"some words {i} " * 40, "label": ("human", "machine")[i % 2]} for i in range(6)],
    "people": [{"template": "Then {group} was", "groups": ["she", "he"], "kind": ["kind"], "unkind": [f"bad{i}"]} for i in range(4)],
    "documents": [
        {"document": f"Some words {i}. Other words, and {i}.", "question": f"which words {i}", "spans": ["Other words"]} for i in range(3)
    ],
    "sums": [{"problem": f"{i} + 1/2", "answer": f"\\frac{{{2 * i + 1}}}{{2}}"} for i in range(6)],
}  # fmt: skip


def answers(item, tokenizer) -> list[Episode]:
    """What a model may come back with: the target itself, nothing at all, and nonsense cut by the limit."""
    if item.want == "score":
        ids = tuple(tokenizer.encode(item.target))
        return [Episode("scored", item.id, tokens=ids, logp=tuple(-0.1 * (i % 7) for i in range(len(ids))))]
    return [
        Episode("right", item.id, "\n" + item.target + "\n", ended="stop"),
        Episode("empty", item.id, "", ended="stop"),
        Episode("cut", item.id, "\n)]} \x00 é", ended="limit"),
    ]


@of("rollout")
def test_rollouts_answer_every_item_and_depend_on_the_key_alone(name):
    method = make("rollout", name)
    asked = [Item("a", "def f(x):\n    '''Add.\n\n    >>> f(1)\n    2\n    '''", "generate"), Item("b", "", "score", "text")]

    class Guessing:
        def sample(self, items, n, rng):
            bodies = [f"\n    return x + {python_rng(rng.child(k)).randint(0, 3)}\n" for k in range(n)]
            return [
                [Episode(f"{item.id}#{k}", item.id, text) for k, text in enumerate(bodies[: n if item.want == "generate" else 1])]
                for item in items
            ]

    first, second = (method.rollout(Guessing(), asked, CANNED, RNG) for _ in range(2))
    assert first == second and {episode.item for episode in first} == {"a", "b"}
    assert len({episode.id for episode in first}) == len(first)


@of("task")
def test_tasks_ask_and_grade_deterministically(name, held_out):
    method = make("task", name)
    items = list(method.items(held_out, RNG))
    assert items and items == list(method.items(held_out, RNG)) and len({item.id for item in items}) == len(items)
    rows, tools = [], tools_for(method)
    for item in items[: 4 if tools else None]:  # programs take their time
        for episode in answers(item, held_out.tokenizer):
            grade = method.grade(item, episode, tools)
            assert grade == method.grade(item, episode, tools)
            assert np.isfinite([grade.score, *grade.parts.values(), *(grade.per_token or ())]).all()
            rows.append((item, episode, grade))
    summary = method.summary(rows, RNG)
    assert summary and summary == method.summary(rows, RNG) and np.isfinite(list(summary.values())).all()
