"""A small engine's model, words and listeners, for the tests of all that goes through an engine."""

from __future__ import annotations

import threading
import time

import torch

from bloomery.data.tokenizer import learn
from bloomery.infer.asks import Ask, End
from bloomery.infer.engine import Engine
from bloomery.infer.model import sampling
from bloomery.nn.config import Config
from bloomery.nn.model import Transformer
from bloomery.seams import Rng

WORDS = learn(["def f(x):\n    return x + 1\n", "some words and some more words"] * 20, 270).inner
SEED = Rng((5, "generate"))


def make(context: int = 96, **changes) -> Transformer:
    shape = {"vocab": 270, "width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 48, "context": context}
    net = Transformer(Config(**{**shape, **changes}), Rng((4,)))
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(6.0) if p.dim() > 1 else None
    return net.eval()


PROMPTS = ["def f(", "some", "x", "return some more words and more words and some", "words " * 9, "1", "(x)", "and"]
WARM = sampling(1.2, 100, 0.95)


class Listener:
    """Collects what is delivered; `end()` waits for the last."""

    def __init__(self, on_piece=None) -> None:
        self.events, self.done, self.on_piece = [], threading.Event(), on_piece

    def __call__(self, event) -> None:
        self.events.append(event)
        if isinstance(event, End):
            self.done.set()
        elif self.on_piece:
            self.on_piece()

    def end(self) -> End:
        assert self.done.wait(280)  # only a broken engine waits so long: a busy machine decides nothing
        return self.events[-1]


def ask(prompt: str, **more) -> Ask:
    more.setdefault("stop_ids", frozenset({2}))
    return Ask(tuple(WORDS.encode(prompt).ids), **more)


def answers(engine, asks) -> list[End]:
    """What each ask ends with, of any engine."""
    ends, done = {}, threading.Event()

    def hear(which, event):
        if isinstance(event, End):
            ends[which] = event
            if len(ends) == len(asks):
                done.set()

    engine.submit(asks, [lambda event, i=i: hear(i, event) for i in range(len(asks))])
    assert done.wait(280)
    return [ends[i] for i in range(len(asks))]


def run(engine: Engine, asks: list[Ask]) -> list[Listener]:
    listeners = [Listener() for _ in asks]
    engine.submit(asks, listeners)
    for one in listeners:
        one.end()
    return listeners


def idle(engine: Engine) -> bool:
    deadline = time.monotonic() + 5
    while (engine.active or engine.waiting or engine.batch.rows) and time.monotonic() < deadline:
        time.sleep(0.002)
    return not (engine.active or engine.waiting or engine.batch.rows)


def asks_of(filters, live=False, stop=("e", "xy")) -> list[Ask]:
    return [
        ask(p, limit=10 + 5 * i, filters=filters, rng=SEED.child("prompt", i), stop=stop, live=live, logprobs=3)
        for i, p in enumerate(PROMPTS)
    ]
