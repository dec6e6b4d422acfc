"""Which engine runs what, vLLM's behind a stand-in of its documented interface, and adapters over one base."""

import json
import shutil
import sys
import threading
from pathlib import Path

import pytest
import stand_in_vllm
import torch

from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import learn
from bloomery.infer import compiled, engines, vllm_engine
from bloomery.infer.answers import Examinee
from bloomery.infer.asks import Ask, End
from bloomery.infer.cache import page_bytes
from bloomery.infer.engines import PLAIN, Native, adapted, open_engine, opened, with_adapters
from bloomery.infer.guide import Guide
from bloomery.infer.int4 import Int4
from bloomery.infer.int8 import Int8, whole_products
from bloomery.infer.model import load, sampling
from bloomery.infer.serving import told
from bloomery.nn import lora, peft
from bloomery.nn.config import Config
from bloomery.nn.hf import to_hf
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Rng

torch.set_num_threads(1)


def network() -> Transformer:
    net = Transformer(Config(vocab=280, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=96), Rng((7,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(6.0) if p.dim() > 1 else None
    return net.eval()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same random model in both formats."""
    root = tmp_path_factory.mktemp("engines")
    for name in ("words", "native", "theirs"):
        (root / name).mkdir()
    learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 280).save(root / "words")
    learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 280).save(root / "native")
    net = network()
    save(net, root / "native")
    to_hf(net, root / "words", root / "theirs")
    return root


@pytest.fixture
def vllm(monkeypatch, folders):
    """The stand-in in vLLM's place; gives the module."""
    made = stand_in_vllm.modules(load(folders / "native").net)
    for name, module in made.items():
        monkeypatch.setitem(sys.modules, name, module)
    return made["vllm"]


class Answers:
    """Collects what is delivered for several asks."""

    def __init__(self, engine, asks) -> None:
        self.events, self.done = [[] for _ in asks], threading.Event()
        self.jobs = engine.submit(asks, [lambda event, i=i: self.hear(i, event) for i in range(len(asks))])

    def hear(self, which, event) -> None:
        self.events[which].append(event)
        if all(one and isinstance(one[-1], End) for one in self.events):
            self.done.set()

    def ends(self) -> list[End]:
        assert self.done.wait(30)
        return [one[-1] for one in self.events]


# ---- the choice -----------------------------------------------------------------------------------------------------


def test_the_native_engine_runs_what_no_other_reads(folders):
    assert engines.choice(folders / "native", "auto") == ("native", "no other engine reads this folder")
    assert engines.choice(folders / "theirs", "auto") == ("native", "vLLM is not installed")
    assert engines.choice(folders / "theirs", "native") == ("native", "asked for")
    assert engines.choice(Path("owner/name"), "auto") == ("native", "no folder here, and it fetches what the hub has")


def test_a_gguf_file_is_llama_cpps(tmp_path, folders):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    for where in (tmp_path, file):
        assert engines.choice(where, "auto") == ("llama.cpp", "model.gguf is a file for it")
        assert engines.choice(where, "llama.cpp")[0] == "llama.cpp"
        for other in ("native", "vllm"):
            with pytest.raises(BadInput, match=r"is for llama\.cpp; say --engine llama\.cpp"):
                engines.choice(where, other)
    with pytest.raises(BadInput, match=r"holds no GGUF file, which is what llama\.cpp runs; export the model to gguf first"):
        engines.choice(folders / "native", "llama.cpp")
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadInput, match="holds 2 GGUF files; name one of them"):
        engines.choice(tmp_path, "auto")
    with pytest.raises(BadInput, match=r"choose one of auto, native, llama\.cpp, vllm"):
        open_engine(folders / "native", "tgi")


def test_vllm_is_chosen_where_it_can_run(folders, vllm, monkeypatch):
    assert engines.choice(folders / "theirs", "auto") == ("native", "vLLM is installed, and there is no GPU for it")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert engines.choice(folders / "theirs", "auto") == ("vllm", "a folder in Hugging Face's format, and a GPU")
    assert engines.choice(folders / "native", "auto")[0] == "native"
    with pytest.raises(BadInput, match="is not in Hugging Face's format, which is what vLLM reads"):
        engines.choice(folders / "native", "vllm")
    with pytest.raises(BadInput, match="owner/name is no folder here, and vLLM is given one"):
        engines.choice(Path("owner/name"), "vllm")


def test_without_vllm_it_is_refused_in_one_sentence(folders):
    with pytest.raises(BadInput, match="the package vllm is not installed; install it on a machine with a GPU, or say --engine native"):
        open_engine(folders / "theirs", "vllm")


# ---- vLLM, by its documented interface ------------------------------------------------------------------------------


def test_vllm_gives_what_the_native_engine_gives(folders, vllm):
    ours, theirs = opened(load(folders / "native")), open_engine(folders / "theirs", "vllm")
    assert theirs.context == 96 and theirs.stops == ours.stops and theirs.why == "asked for"
    prompts = ["some words", "def f(", "x", "return some"]
    asks = [
        Ask(tuple(ours.tokenizer.encode(p).ids), 10 + 5 * i, stop=("e x",), stop_ids=ours.stops, logprobs=2, echo=True, live=True)
        for i, p in enumerate(prompts)
    ]
    with ours.start(2, 10, True) as native, theirs.start(2, 10, True) as other:
        assert other.kind == "vllm" and "stand-in" in other.told
        want, found = Answers(native, asks), Answers(other, asks)
        for mine, yours in zip(want.ends(), found.ends(), strict=True):
            assert (mine.text, mine.ids, mine.reason) == (yours.text, yours.ids, yours.reason)
            for a, b in zip([*mine.prompt, *mine.tokens], [*yours.prompt, *yours.tokens], strict=True):
                assert (a.id, a.start) == (b.id, b.start) and [i for i, _ in a.top] == [i for i, _ in b.top]
                assert a.logp == b.logp or a.logp == pytest.approx(b.logp, abs=2e-5)
        for mine, yours in zip(want.events, found.events, strict=True):
            assert [one.text for one in mine[:-1]] == [one.text for one in yours[:-1]]
        assert not other._inner.running and not other._jobs


def test_vllm_is_asked_for_what_was_asked(folders, vllm):
    found = open_engine(folders / "theirs", "vllm")
    guide = Guide.schema({"type": "object"})
    asks = [
        Ask((5, 6), 3, sampling(0.7, 5, 0.9), Rng((1,)), stop_ids=found.stops, guide=guide), Ask((5, 6), 3, rng=Rng((2,))), Ask((5,), 0),
    ]  # fmt: skip
    with found.start(3, 3, True) as engine:
        ends = Answers(engine, asks).ends()
        first, second, third = engine._inner.seen
        assert (first.temperature, first.top_k, first.top_p) == (0.7, 5, 0.9) and first.stop_token_ids == sorted(found.stops)
        assert json.loads(first.structured_outputs.json)["type"] == "object" and first.structured_outputs.regex is None
        assert second.temperature == 0.0 and second.structured_outputs is None and first.seed != second.seed and first.seed >= 0
        assert third.max_tokens == 1 and ends[2].ids == ()
        assert not any(one.detokenize for one in engine._inner.seen)


def test_vllm_refuses_what_it_has_not(folders, vllm):
    class Odd:
        reads = ("logits:net",)

    found = open_engine(folders / "theirs", "vllm")
    with found.start(1, 1, True) as engine:
        for filters, says in (((Odd(),), "no sampling by Odd"), (sampling(0.7, 5)[::-1], "in this order")):
            with pytest.raises(BadInput, match=says):
                engine.submit([Ask((5,), 1, filters)], [print])


def test_a_request_that_vllm_refuses_fails_alone(folders, vllm, monkeypatch):
    real = vllm.LLMEngine.add_request

    def choosy(self, name, prompt, params):
        if params.structured_outputs is not None:
            raise ValueError("no such grammar")
        real(self, name, prompt, params)

    monkeypatch.setattr(vllm.LLMEngine, "add_request", choosy)
    asks = [Ask((5, 6), 9), Ask((5, 6), 9, guide=Guide("grammar", "start: odd")), Ask((5,), 9)]
    with open_engine(folders / "theirs", "vllm").start(3, 3, True) as engine:
        ends = Answers(engine, asks).ends()
        assert not engine._jobs and not engine._inner.running
    assert [end.reason == "failed" for end in ends] == [False, True, False]
    assert ends[1].error == "vLLM refuses it (ValueError: no such grammar)"


def test_hang_ups_reach_vllm(folders, vllm):
    found, heard = open_engine(folders / "theirs", "vllm"), threading.Event()
    with found.start(1, 1, True) as engine:
        job = engine.submit([Ask((5, 6), 90, live=True)], [lambda event: heard.set()])[0]
        assert heard.wait(20)
        engine.cancel(job)
        assert len(Answers(engine, [Ask((5, 6), 3)]).ends()[0].ids) == 3
        assert engine._inner.aborted[0] == "bloomery-0" and not job.ended
    assert vllm_engine.installed()


def test_a_tokenizer_of_another_model_is_refused_before_anything_is_asked(folders):
    model = load(folders / "native")
    model.tokenizer = learn(["some quite other words, of which there are more", "x = y + z\n"] * 20, 290).inner
    for use in (opened, Examinee):
        with pytest.raises(BadInput, match=r"native has the token 289 .*, and the model knows 0 to 279; put the tokenizer"):
            use(model)


def test_vllm_is_given_no_tokenizer_of_another_model(folders, vllm, tmp_path):
    shutil.copytree(folders / "theirs", tmp_path / "odd")
    learn(["some quite other words, of which there are more", "x = y + z\n"] * 20, 290).inner.save(str(tmp_path / "odd" / "tokenizer.json"))
    with pytest.raises(BadInput, match=r"odd has the token 289 .*, and the model knows 0 to 279"):
        open_engine(tmp_path / "odd", "vllm")


# ---- one answer at a time, and adapters ---------------------------------------------------------------------------


def test_pieces_of_one_answer(folders):
    found = opened(load(folders / "native"))
    ask = Ask(tuple(found.tokenizer.encode("some words").ids), 30, sampling(0.8), Rng((3, "generate")).child("prompt", 0))
    with found.start(1, 0, False) as engine:
        pieces = list(told(engine, ask))
        assert len(pieces) > 3 and "".join(pieces) == found.model.generate(["some words"], 30, temperature=0.8, seed=3)[0].text
        for piece in told(engine, ask):
            assert piece
            break  # whoever leaves frees the slot
        assert "".join(told(engine, ask)) == "".join(pieces)


def test_weights_are_the_native_engines_alone(folders, adapters, vllm):
    found = open_engine(folders / "native", native=Native(weights="int8"))
    with found.start(1, 0, False) as engine:
        assert "bfloat16" in engine.told and "".join(told(engine, Ask((1, 5, 6), 30)))
    with pytest.raises(BadInput, match="adapters need the weights that they were trained beside"):
        with_adapters(found, adapters)
    with pytest.raises(BadInput, match=r"--weights is for the native engine, and .*theirs is run by vllm"):
        open_engine(folders / "theirs", "vllm", native=Native(weights="int8"))
    for native, says in (
        (Native(guess="lookup"), "--guess"), (Native(exact=True), "--exact"), (Native(exact=False), "--no-exact"),
        (Native(compiled=True), "--compile"), (Native(compiled=False, pays=True), "--no-compile"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=f"{says} is for the native engine"):
            open_engine(folders / "theirs", "vllm", native=native)
    assert open_engine(folders / "theirs", "vllm", native=Native(pays=True)).engine == "vllm"
    assert not open_engine(folders / "native", native=Native(exact=False)).start(1, 0, True).slots.exact


def test_what_fits_no_model_is_refused_before_one_is_loaded(folders, adapters, monkeypatch):
    monkeypatch.setattr(engines, "load", None)  # whoever loads something fails
    monkeypatch.setattr(compiled, "compiler", lambda: None)
    place, low, gguf = folders / "native", {"low": adapters["low"]}, folders / "model.gguf"
    gguf.touch()
    for where, native, with_them, says in (
        (place, Native(weights="int5"), {}, "weights must be one of .*, got 'int5'"),
        (place, Native(wide=True), {}, "wide: no linear is packed"),
        (place, Native(weights="bf16", wide=True), {}, "wide: no linear is packed"),
        (place, Native(compiled=True), {}, "no C\\+\\+ compiler"),
        (place, Native(weights="int8"), low, "adapters need the weights"),
        (place, PLAIN, {"x": place}, "holds no adapter"),
        (gguf, PLAIN, low, "adapters are run by the native engine, and model.gguf by llama.cpp"),
        (gguf, Native(guess="lookup"), {}, "run by llama.cpp; leave it out, or name the model that the file was made from"),
    ):
        with pytest.raises(BadInput, match=says):
            open_engine(where, native=native, adapters=with_them)


def test_steps_are_compiled_as_wished_or_where_it_pays(folders, monkeypatch):
    """`chat` compiles where it is told to alone, `serve` where it pays too."""
    monkeypatch.setattr(compiled, "compiler", lambda: "g++")
    monkeypatch.setattr(compiled, "PAYS_FROM", 1)
    for wish, pays, compiles in ((None, False, False), (None, True, True), (False, True, False), (True, False, True)):
        engine = open_engine(folders / "native", native=Native(compiled=wish, pays=pays)).start(1, 0, False)
        assert engine.compiles == compiles and bool(engine.preparing) == compiles


def test_a_copy_beside_packed_weights(folders):
    found = open_engine(folders / "native", native=Native(weights="int4", wide=True))
    packed = [unit for unit in found.model.net.modules() if isinstance(unit, Int4)]
    assert packed and all(unit.wide.weight.equal(unit.weight) for unit in packed)
    found = open_engine(folders / "native", native=Native(weights="int8", wide=True))
    packed = [unit for unit in found.model.net.modules() if isinstance(unit, Int8)]
    assert packed and all((unit.blocks is not None) == whole_products() for unit in packed)
    with pytest.raises(BadInput, match="wide: no linear is packed"):
        open_engine(folders / "native", native=Native(wide=True))


def test_guesses_and_a_small_cache_change_no_greedy_text(folders):
    place, asked = folders / "native", Ask((1, 5, 6), 30)
    plain = open_engine(place)
    with plain.start(1, 0, False) as engine:
        want = "".join(told(engine, asked))
        assert "eager steps (compiling was not asked for), 1 slots" in engine.told and not engine.preparing
    size = page_bytes(plain.model.net.cfg, torch.float32)
    for guess, nets, says in (("lookup", 1, "guessed from the text itself"), (place, 2, "drafted by a model of")):
        found = open_engine(place, native=Native(guess=guess, ahead=2, cache=10 * nets * size + 1))
        with found.start(2, 0, True) as engine:
            assert says in engine.told and "".join(told(engine, asked)) == want
            assert engine.counts()["guessed"] >= engine.counts()["stood"] >= nets - 1
            assert engine.counts()["pages"] == 10
    with pytest.raises(BadInput, match=r"cache: one request of [\d,]+ tokens takes .* MB"):
        open_engine(place, native=Native(cache=5 * size)).start(2, 0, True)


@pytest.fixture(scope="module")
def adapters(folders):
    """Two adapters of the base; the second holds the embedding whole."""
    for name, whole in (("low", False), ("whole", True)):
        net = load(folders / "native").net
        net.requires_grad_(False)
        for unit, held in lora.parts(net).items():
            if unit.endswith("mlp.down"):
                parts = [lora.Part(part, rows, 4, 8.0) for part, rows, _ in held]
                made = lora.LoraLinear(net.get_submodule(unit), parts, rng=Rng((name, unit)))
                with torch.no_grad():
                    for b in made.b.values():
                        b.normal_(0, 0.3, generator=torch.Generator().manual_seed(len(name)))
                net.set_submodule(unit, made)
        if whole:
            with torch.no_grad():
                net.embed.weight.mul_(1.1)
            net.embed.weight.requires_grad_(True)
        (folders / name).mkdir()
        peft.save(net, folders / name, str(folders / "native"))
    return {name: folders / name for name in ("low", "whole")}


def test_adapters_share_the_bases_weights_and_leave_it_alone(folders, adapters):
    base = load(folders / "native")
    before = base.generate(["some words"], 20)[0].text
    linear = "blocks.0.mixer.qkv"
    for name, folder in adapters.items():
        made = adapted(base, folder)
        want = load(folder)
        assert torch.equal(made.logits([[1, 5, 6]]), want.logits([[1, 5, 6]]))
        assert made.net.get_submodule(linear).weight.data_ptr() == base.net.get_submodule(linear).weight.data_ptr()
        assert (made.net.embed.weight.data_ptr() == base.net.embed.weight.data_ptr()) == (name == "low")
        assert not torch.equal(made.logits([[1, 5, 6]]), base.logits([[1, 5, 6]]))
    assert base.generate(["some words"], 20)[0].text == before == load(folders / "native").generate(["some words"], 20)[0].text


def test_adapters_are_refused_by_name(folders, adapters, vllm):
    found = with_adapters(opened(load(folders / "native")), adapters)
    assert list(found.adapters) == ["low", "whole"] and found.adapters["low"].engine == "native"
    with pytest.raises(BadInput, match="holds no adapter"):
        with_adapters(opened(load(folders / "native")), {"x": folders / "native"})
    with pytest.raises(BadInput, match="adapters are run by the native engine, and theirs by vllm"):
        with_adapters(open_engine(folders / "theirs", "vllm"), adapters)
