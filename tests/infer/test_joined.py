"""Several models per step: each with a cache of its own, the same tokens, and text scored under what the filters make of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import learn
from bloomery.infer import model
from bloomery.infer.answers import Examinee
from bloomery.infer.asks import Ask
from bloomery.infer.engine import Engine
from bloomery.infer.exam import kept_nats, scored_again
from bloomery.infer.score import log_probabilities
from bloomery.methods.filter.eft import EFT
from bloomery.methods.filter.temperature import Temperature
from bloomery.methods.filter.top_k import TopK
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.nn.saving import save
from bloomery.seams import Item, Rng

torch.set_num_threads(1)
GREEDY = (EFT(), Temperature(0.0))
PROMPTS = ["def f", "return x + 1\n", "x", "import"]
TEXTS = ["def f(x):\n    return x + 1\n", "x = 3", "return " * 30]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A large base, a small base and the small one changed a little, of one tokenizer; and one with another tokenizer."""
    words = [f"def f{i}(x):\n    return x + {i}\n" for i in range(40)]
    made = {}
    for name, width, context, seed, size in (("large", 48, 48, 1, 280), ("base", 32, 40, 2, 280), ("odd", 32, 40, 2, 270)):
        made[name] = tmp_path_factory.mktemp(name)
        learn(words, size).save(made[name])
        net = Transformer(Config(vocab=size, width=width, layers=2, heads=4, kv_heads=2, ffn=64, context=context), Rng((seed,)))
        with torch.no_grad():
            for p in net.parameters():
                p.mul_(5.0) if p.dim() > 1 else None
        save(net, made[name])
        if name == "base":
            made["expert"] = tmp_path_factory.mktemp("expert")
            learn(words, size).save(made["expert"])
            with torch.no_grad():
                for p in net.parameters():
                    p.add_(0.3 * p.std() * torch.randn(p.shape, generator=torch.Generator().manual_seed(9))) if p.dim() > 1 else None
            save(net, made["expert"])
    return made


def joined(folders, net: str = "large", filters=GREEDY, **roles) -> model.Model:
    roles = roles or {"expert": folders["expert"], "base": folders["base"]}
    return model.load(folders[net], roles=roles, filters=filters)


@torch.inference_mode()
def by_hand(folders, prompt: str, limit: int) -> list[int]:
    nets = {name: model.load(folders[name]) for name in ("large", "expert", "base")}
    ids = nets["large"].encode(prompt)
    for _ in range(limit):
        large, expert, base = (one.logits(ids)[-1].log_softmax(-1) for one in nets.values())
        ids.append(int((large + expert - base).argmax()))
    return ids[-limit:]


def test_every_token_is_that_of_three_whole_models(folders):
    one = joined(folders)
    for prompt, found in zip(PROMPTS, one.generate(PROMPTS, 16, filters=GREEDY), strict=True):
        wanted = by_hand(folders, prompt, 16)
        assert list(found.ids) == wanted[: len(found.ids)] and (len(found.ids) == 16 or found.ended == "stop")


@pytest.mark.parametrize("filters", [GREEDY, (EFT(0.7), Temperature(1.2), TopK(20))], ids=["greedy", "sampled"])
def test_company_changes_nothing_and_a_stream_is_the_completion(folders, filters):
    one = joined(folders, filters=filters)
    together = one.decoder.generate(PROMPTS, 20, filters, stop=["3"])
    assert together == one.decoder.generate(PROMPTS, 20, filters, stop=["3"], rows=2)
    assert "".join(one.decoder.stream(PROMPTS[0], 20, filters, ["3"])) == together[0].text


def test_equal_sizes_are_the_tuned_model_itself(folders):
    one, expert = joined(folders, net="base"), model.load(folders["expert"])
    assert one.generate(PROMPTS, 20, filters=GREEDY) == expert.generate(PROMPTS, 20)
    sampled = (EFT(), Temperature(1.0))
    assert one.generate(PROMPTS, 20, filters=sampled, seed=3) == expert.generate(PROMPTS, 20, temperature=1.0, seed=3)
    assert all(np.array_equal(a, b) for a, b in zip(one.score(TEXTS), expert.score(TEXTS), strict=True))
    assert one.logits([1, 5, 9]).equal(expert.logits([1, 5, 9]))


def test_scores_are_those_of_the_logits_and_sum_to_one(folders):
    one = joined(folders, filters=(EFT(), TopK(3)))
    assert one.context == 40 and one.combined == (EFT(),)
    ids = one.encode(TEXTS[0])
    logp = one.logits(ids[:-1]).double().log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    assert torch.allclose(torch.from_numpy(one.score([ids])[0]).double(), logp, atol=1e-5)
    every = one.score([[*ids[:4], token] for token in range(280)])
    assert sum(float(np.exp(row[-1].astype(np.float64))) for row in every) == pytest.approx(1, abs=1e-4)
    assert not np.allclose(one.score([ids])[0], model.load(folders["large"]).score([ids])[0])
    alone = log_probabilities(one.net, [ids], filters=(Temperature(2.0),))[0]
    halved = (model.load(folders["large"]).logits(ids[:-1]) / 2).log_softmax(-1).gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    assert np.allclose(alone, halved.numpy(), atol=1e-5)


def test_a_text_longer_than_the_shortest_context_is_cut_for_all(folders):
    """An examinee's score and its own second look agree, by plain passes of every model over the same pieces."""
    examinee = Examinee(joined(folders))
    item = Item("a", "", "score", "x = y\n" * 60)
    answer = examinee.answers([item], (), Rng((0,)))[0]
    assert len(answer.episode.tokens) > 80
    row = {"parts": {"nats": -sum(answer.episode.logp)}, "tokens": len(answer.episode.tokens)}
    assert kept_nats(row) is not None and max(scored_again(examinee, item, row)) < 1e-5


def test_what_does_not_fit_is_refused(folders):
    with pytest.raises(BadInput, match="expert has other tokens"):
        joined(folders, expert=folders["odd"], base=folders["base"])
    with pytest.raises(BadInput, match="EFT reads the logits of a model called base"):
        joined(folders, expert=folders["expert"])
    with pytest.raises(BadInput, match="EFT reads the logits of a model called expert"):
        model.load(folders["large"], filters=GREEDY)
    plain = model.load(folders["large"], roles={"critic": folders["expert"]}, filters=GREEDY[1:])
    assert plain.decoder.others == {} and plain.combined == ()
    with pytest.raises(BadInput, match="no filter reads critic"):
        plain.join({"critic": model.load(folders["expert"])}, GREEDY)
    with pytest.raises(BadInput, match="a model called expert"):
        plain.generate(PROMPTS, filters=GREEDY)
    with pytest.raises(BadInput, match="a model called expert"):
        plain.score(TEXTS, filters=GREEDY)
    with Engine(plain.net, plain.tokenizer) as engine, pytest.raises(BadInput, match="a model called expert"):
        engine.submit([Ask((1, 2), filters=GREEDY)], [lambda piece: None])

    class Repeats:
        reads = ("logits:net", "tokens")

    with pytest.raises(BadInput, match="Repeats looks at the tokens before"):
        plain.score(TEXTS, filters=(Repeats(),))


def test_no_other_network_runs_where_no_filter_reads_it(folders, monkeypatch):
    one = joined(folders)
    run: list = []
    for name, net in one.decoder.others.items():
        monkeypatch.setattr(net, "forward", lambda *given, name=name, real=net.forward, **more: run.append(name) or real(*given, **more))
    plain = one.decoder.generate(PROMPTS, 8)
    assert not run and plain == model.load(folders["large"]).decoder.generate(PROMPTS, 8)
    one.decoder.generate(PROMPTS, 8, GREEDY)
    assert set(run) == {"expert", "base"}
