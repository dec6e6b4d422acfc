"""Every player against our own net, and a hop's figures against closed forms and damage."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

from bloomery.core.errors import BadInput
from bloomery.data.tokenizer import learn
from bloomery.infer.hops import Material, compare, told_parity
from bloomery.infer.parity import parity
from bloomery.infer.players import Gguf, Native, Player, Reread, Server, Told, Transformers, open_player, token_id
from bloomery.nn.config import Config
from bloomery.nn.hf import to_hf
from bloomery.nn.model import Transformer
from bloomery.nn.saving import load, save
from bloomery.seams import Rng

torch.set_num_threads(1)
TEXT = "def f(x):\n    return x + 1\n# naïve ½ <|eos|>"
CHAT = [{"role": "user", "content": "What is f?"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("model")
    learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 270).save(where)
    net = Transformer(Config(vocab=270, width=32, layers=2, heads=4, kv_heads=2, ffn=48, context=64), Rng((7,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(5.0) if p.dim() > 1 else None
    save(net, where)
    return where


@pytest.fixture(scope="module")
def ours(folder):
    return Native(folder, "ours")


@pytest.fixture(scope="module")
def sequences():
    return torch.randint(3, 270, (6, 40), generator=torch.Generator().manual_seed(3)).tolist()


def given(sequences, **more) -> Material:
    return Material([TEXT, "some words"], [CHAT], sequences, prompt=10, prompts=4, new=8, **more)


def test_native_reads_plain_text_and_never_stops(ours, folder):
    assert ours.encode(TEXT)[0] == 1 and ours.encode(TEXT).count(2) == 0, "a begin token, and the end token's name is plain text"
    assert ours.logits([1, 5, 9]).dtype == torch.float32 and ours.logits([1, 5, 9]).shape == (3, 270)
    ids, wanted = [1, 5, 9], []
    for _ in range(30):
        wanted.append(int(ours.logits([*ids, *wanted])[-1].argmax()))
    assert ours.greedy(ids, 30) == wanted
    assert ours.ends == {2} and (ours.vocab, ours.context) == (270, 64)


def test_transformers_is_the_same_model(ours, folder, tmp_path, sequences):
    to_hf(load(folder), folder, tmp_path, torch.float32)
    theirs = open_player(tmp_path, "theirs")
    assert isinstance(theirs, Transformers) and isinstance(open_player(folder), Native)
    found = compare(ours, theirs, given(sequences))
    assert found.token_ids_differ == 0 and found.texts == 3
    assert found.parity.kl < 1e-9 and found.parity.agreement == 1 and found.parity.largest < 1e-4
    assert (found.greedy_equal, found.greedy_total, found.greedy_odd) == (4, 4, 0)
    theirs.close()


def test_damage_shows_in_every_figure(ours, folder, tmp_path, sequences):
    net = load(folder)
    with torch.no_grad():
        net.blocks[1].mlp.down.weight[:8] *= -1
    save(net, tmp_path)
    learn(["other words altogether, quite other ones"] * 20, 270).save(tmp_path)
    found = compare(ours, Native(tmp_path), given(sequences))
    assert found.token_ids_differ == 2 and "def f" in found.example
    assert found.parity.kl > 1e-3 and found.parity.agreement < 1 and found.greedy_equal < 4
    assert found.greedy_odd == 0, "it writes what its own logits tell"


def test_a_decoder_that_does_not_follow_its_logits_is_odd(ours, sequences):
    class Broken(Native):
        def greedy(self, ids, limit):
            return [(one + 1) % 270 for one in super().greedy(ids, limit)]

    found = compare(ours, Broken(ours.model.folder), given(sequences))
    assert found.parity.kl == 0 and (found.greedy_equal, found.greedy_odd) == (0, 4)


def test_what_one_of_them_does_not_know_is_left_out_and_said(ours, tmp_path, folder, sequences):
    small = Transformer(Config(vocab=264, width=32, layers=1, heads=4, kv_heads=2, ffn=48, context=16), Rng((8,)))
    save(small, tmp_path)
    learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 264).save(tmp_path)
    found = compare(ours, Native(tmp_path), given([[5, 6, 7], [5, 267, 7], [9] * 40]))
    assert found.parity.tokens == 2 + 15, "the second holds token 267, the third is cut to the shorter context"
    assert any("264 tokens that both know" in note for note in found.notes) and any("1 sequences" in note for note in found.notes)


# ---- GGUF ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(folder, tmp_path_factory):
    gguf = pytest.importorskip("bloomery.nn.gguf")
    pytest.importorskip("gguf")
    from bloomery.nn.gguf_words import read_words

    where, net = tmp_path_factory.mktemp("gguf") / "model.gguf", load(folder)
    gguf.write(where, net.cfg, gguf.contents(net, {}, "F16", "F16"), read_words(folder, 270), "F16", "ours")
    return where


def test_llama_cpp_is_the_same_model(ours, file, sequences):
    pytest.importorskip("llama_cpp")
    theirs = open_player(file.parent)
    assert isinstance(theirs, Gguf) and (theirs.vocab, theirs.context, theirs.ends) == (270, 64, {2})
    found = compare(ours, theirs, given(sequences))
    assert found.token_ids_differ == 0 and found.texts == 3 and found.greedy_odd == 0
    assert 0 < found.parity.kl < 1e-5 and found.parity.agreement > 0.98
    theirs.close()


def test_without_llama_cpp_the_file_is_read_back_and_that_is_said(ours, file, sequences, monkeypatch):
    monkeypatch.setattr("bloomery.infer.players.installed", lambda: False)
    theirs = open_player(file.parent, source=ours)
    assert isinstance(theirs, Reread)
    found = compare(ours, theirs, given(sequences))
    assert found.texts == 0 and "token ids are not compared" in found.notes[-1]
    assert 0 < found.parity.kl < 1e-5 and found.greedy_odd == 0


# ---- servers -------------------------------------------------------------------------------------------------------------


def answer(player: Player, asked: dict) -> dict:
    """/v1/completions as the protocol has it, with tokens named by their ids."""
    ids = player.encode(asked["prompt"]) if isinstance(asked["prompt"], str) else asked["prompt"]
    new = player.greedy(ids, asked["max_tokens"]) if asked["max_tokens"] else []
    shown, logp = ([*ids, *new] if asked.get("echo") else new), player.logits([*ids, *new]).log_softmax(-1)
    first = len(ids) + len(new) - len(shown)
    top = [None if t == 0 else {f"token_id:{int(i)}": float(logp[t - 1, i]) for i in logp[t - 1].topk(asked["logprobs"]).indices}
           for t in range(first, len(ids) + len(new))]  # fmt: skip
    own = [None if first + k == 0 else float(logp[first + k - 1, one]) for k, one in enumerate(shown)]
    return {"choices": [{"logprobs": {"tokens": [f"token_id:{one}" for one in shown], "token_logprobs": own, "top_logprobs": top}}]}


def chat_answer(player: Player, asked: dict) -> dict:
    """/v1/chat/completions likewise; like other servers it says that an answer ended, and not by which token."""
    ids = player.chat(asked["messages"])
    new = player.greedy(ids, asked["max_tokens"])
    reason, new = ("stop", new[: new.index(2)]) if 2 in new else ("length", new)
    content = [{"token": f"token_id:{one}", "logprob": 0.0} for one in new]
    return {"choices": [{"logprobs": {"content": content}, "finish_reason": reason}], "usage": {"prompt_tokens": len(ids)}}


ROUTES = {"/v1/completions": answer, "/v1/chat/completions": chat_answer}


@contextmanager
def serving(player: Player):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            route = ROUTES.get(self.path)
            self.send_response(200 if route else 404)
            self.end_headers()
            self.wfile.write(json.dumps(route(player, asked) if route else {"error": "no such place"}).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_of_the_same_model(ours, sequences):
    with serving(ours) as url:
        found = compare(ours, Server(url, "ours"), given(sequences))
    assert found.token_ids_differ == 0 and found.texts == 3
    assert abs(found.parity.kl) < 1e-6 and found.parity.agreement == 1 and found.parity.largest < 1e-5
    assert (found.greedy_equal, found.greedy_total) == (5, 5), "four prompts and a conversation"
    assert "lower bound" in found.notes[-1]


def test_a_server_of_another_model_differs_and_its_kl_is_a_lower_bound(ours, folder, tmp_path, sequences):
    net = load(folder)
    with torch.no_grad():
        net.blocks[0].mlp.down.weight.mul_(1.2)
    save(net, tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    other = Native(tmp_path)
    exact = parity(ours.logits, other.logits, sequences)
    with serving(other) as url:
        told = compare(ours, Server(url, "other"), given(sequences)).parity
    assert 0.1 * exact.kl < told.kl < exact.kl and told.largest > 1e-3
    assert told.agreement == exact.agreement and told.nats == pytest.approx(exact.nats, rel=1e-6)


def test_a_server_with_another_template_shows(ours, sequences):
    class Other(Native):
        def chat(self, messages):
            return [*super().chat(messages), 7]

    with serving(Other(ours.model.folder)) as url:
        found = compare(ours, Server(url, "other"), given(sequences))
    assert found.token_ids_differ == 1 and "there" in found.example


def test_told_tokens_and_the_rest_in_closed_form():
    class Reference:
        def logits(self, ids):
            return torch.tensor([0.5, 0.3, 0.1, 0.1]).log().expand(len(ids), 4)

    class Teller:
        def told(self, ids):
            return [Told(float(torch.tensor(0.2).log()), {0: float(torch.tensor(0.6).log()), 1: float(torch.tensor(0.2).log())})]

    found = told_parity(Reference(), Teller(), [[0, 1]])
    p, q = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.6, 0.2, 0.2]).double()
    assert found.kl == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-5)
    assert found.agreement == 1 and found.tokens == 1 and found.largest == pytest.approx(float(torch.tensor(1.5).log()), rel=1e-5)


def test_servers_that_cannot_be_asked_say_why(ours):
    with serving(ours) as url:
        with pytest.raises(BadInput, match=r"answers 404: .*no such place"):
            Server(url, "ours").ask("/v1/elsewhere")
        with pytest.raises(ValueError, match="not all logits"):
            Server(url, "ours").logits([1])
    with pytest.raises(BadInput, match="is the server running"):
        Server("http://127.0.0.1:9", "ours", timeout=2).encode("x")
    with pytest.raises(BadInput, match="not by its id"):
        token_id(" the")
