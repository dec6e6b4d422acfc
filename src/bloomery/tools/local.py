"""Tools on this machine: models of the store in named roles, and the sandbox. What was answered once is not computed again."""

from __future__ import annotations

import base64
import hashlib
import json
import platform
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core.errors import BadInput, near
from bloomery.core.files import files_below, sha256_file
from bloomery.seams import Episode, Grade, Item, Rng
from bloomery.tools.replies import Replies, key_of
from bloomery.tools.sandbox import Ran, Sandbox, strongest
from bloomery.tools.together import each

if TYPE_CHECKING:
    import numpy as np

    from bloomery.infer.answers import Examinee

SCORED_TOGETHER = 1 << 16  # characters of text in one batch, about; a batch is what a kill can cost
ASKED_TOGETHER = 256  # prompts in one batch
SLOTS = 16  # prompts completed side by side


@dataclass(frozen=True)
class Reply:
    """What a model wrote. `ended` is "stop" or "limit"; `dropped` tokens at the beginning of the prompt did not fit its context."""

    text: str
    ended: str
    dropped: int = 0


class LocalTools:
    """seams.Tools over models' folders by role. `counts` holds, by verb and role, the calls and how many were answered from `cache`;
    of programs also how many ran out of time.

    A reply belongs to the model's content, the question and the sampling. Batches are cut before looking up what is known, so that a
    run that was killed computes the same batches, and with them the same last digits, when it goes on.
    """

    def __init__(
        self,
        roles: Mapping[str, Path],
        cache: Path,
        sandbox: Sandbox | None = None,
        grader: Callable[[Item, Episode], Grade] | None = None,
    ) -> None:
        self.roles, self.replies, self.sandbox, self.grader = dict(roles), Replies(Path(cache)), sandbox or Sandbox(), grader
        self.counts: dict[str, dict[str, int]] = {}
        self.library: Mapping[str, str] = {}  # documents by id, as the task at hand has them
        self._models: dict[str, tuple[str, Examinee]] = {}
        self._indexes: dict[str, tuple[Mapping[str, str], np.ndarray]] = {}  # by role: documents and their vectors

    # ---- verbs

    def ask(
        self, prompts: Sequence[str], role: str = "default", *, limit: int = 128, temperature: float = 0.0, top_k: int | None = None,
        top_p: float | None = None, stop: Sequence[str] = (), seed: int = 0, chat: bool = True,
    ) -> list[Reply]:  # fmt: skip
        """What the role's model writes after each prompt, greedy at temperature 0; through its chat template where it has one,
        unless `chat` is off, as it must be for a model that was never tuned: its tokenizer has a template all the same.

        Equal prompts get equal replies; `seed` asks for others. A prompt too long keeps its last tokens.
        """
        how = {"limit": limit, "temperature": temperature, "top_k": top_k, "top_p": top_p, "stop": list(stop), "seed": seed}
        how["chat"] = chat
        batches = _cut(prompts, lambda _: 1, ASKED_TOGETHER)
        found = self._answered(f"ask:{role}", [self._identity(role), how], batches, lambda some: self._complete(some, role, how))
        return [Reply(*one) for one in found]

    def score(self, pairs: Sequence[tuple[str, str]], role: str = "default") -> list[tuple[float, ...]]:
        """Natural log-probability of each token of each continuation after its context, empty where that is empty.

        Context and continuation are encoded in one, after the begin token; a token that holds the end of the one and the beginning
        of the other counts as the continuation's. Of texts beyond the model's context every piece starts anew.
        """
        batches = _cut([list(pair) for pair in pairs], lambda pair: len(pair[0]) + len(pair[1]), SCORED_TOGETHER)
        found = self._answered(f"score:{role}", [self._identity(role)], batches, lambda some: self._score(some, role))
        return [tuple(one) for one in found]

    def run(self, code: str, files: Mapping[str, bytes] = {}, limit_s: float = 5) -> Ran:
        """Run a Python program in the sandbox; how it ended is a `sandbox.Ran`. Only what met the time limit is tried again."""
        about = [asdict(self.sandbox.limits), self.sandbox.mode or strongest(), platform.python_version(), limit_s]
        data = {name: hashlib.sha256(bytes(content)).hexdigest() for name, content in files.items()}
        key = key_of("run", about, hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest(), data)
        known = self.replies.known([key])
        self._count("run", 1, len(known))
        if known:
            return Ran(**known[key])
        ran = self.sandbox.run(code, files, limit_s)
        if ran.reason == "time":
            self.counts["run"]["out_of_time"] = self.counts["run"].get("out_of_time", 0) + 1
        else:
            self.replies.add({key: asdict(ran)})
        return ran

    def grade(self, item: Item, episode: Episode) -> Grade:
        """The verdict of the task at hand."""
        if self.grader is None:
            raise BadInput("there is no task here whose grade could be asked; ask for it in a rollout or a loss of rewards")
        return self.grader(item, episode)

    def embed(self, texts: Sequence[str], role: str = "default", pooling: str = "weighted") -> np.ndarray:
        """A vector for each text, (texts, width of the model) float32: a mean of its hidden states, as infer/embed.py tells."""
        import numpy as np

        about, batches = [self._identity(role), pooling], _cut(texts, len, SCORED_TOGETHER)
        found = self._answered(f"embed:{role}", about, batches, lambda some: self._embed(some, role, pooling))
        width = self._loaded(role)[1].model.net.cfg.width
        return np.frombuffer(b"".join(map(base64.b64decode, found)), np.float32).reshape(len(texts), width)

    def sketch_grad(self, texts: Sequence[str], dim: int, role: str = "default") -> Any:
        raise BadInput("`sketch_grad` is not offered yet; use `score` or `embed`")

    def search(self, query: Any, k: int, role: str = "default") -> list[tuple[str, float]]:
        """The `k` documents of `library` nearest to a query, (id, cosine of the vectors that `embed` gives by plain means), of equals the
        earlier. BadInput where there are none."""
        import numpy as np

        if not self.library:
            raise BadInput("there are no documents here that could be searched; ask for it in a task that has a library")
        if role not in self._indexes or self._indexes[role][0] is not self.library:
            self._indexes[role] = self.library, unit(self.embed(list(self.library.values()), role, "mean"))
        cosines = self._indexes[role][1] @ unit(self.embed([query], role, "mean"))[0]
        names = list(self.library)
        return [(names[i], float(cosines[i])) for i in np.argsort(-cosines, kind="stable")[:k].tolist()]

    def each(self, function: Callable[[Any, Any], Any], items: Sequence[Any]) -> list[Any]:
        """`function(item, tools)` of every item, with all their questions answered together."""
        return each(function, items, self)

    # ---- how

    def _answered(self, verb: str, about: list[Any], batches: Iterator[list[Any]], compute: Callable[[list[Any]], list[Any]]) -> list[Any]:
        """The reply to every question, in order; each batch's missing ones are computed in one and written down in one."""
        found = []
        for batch in batches:
            keys = [key_of(verb.partition(":")[0], about, question) for question in batch]
            unique = dict(zip(keys, batch, strict=True))
            known = self.replies.known(list(unique))
            missing = {key: question for key, question in unique.items() if key not in known}
            self._count(verb, len(batch), len(batch) - len(missing))
            if missing:
                fresh = dict(zip(missing, compute(list(missing.values())), strict=True))
                self.replies.add(fresh)
                known |= fresh
            found += [known[key] for key in keys]
        return found

    def _count(self, verb: str, calls: int, hits: int) -> None:
        count = self.counts.setdefault(verb, {"calls": 0, "hits": 0})
        count["calls"] += calls
        count["hits"] += hits

    def _folder(self, role: str) -> Path:
        if role not in self.roles:
            raise BadInput(f"no model is bound to the role {role!r}; {near(role, list(self.roles))}; name one under `roles`")
        return Path(self.roles[role])

    def _identity(self, role: str) -> str:
        return self._loaded(role)[0]

    def _loaded(self, role: str) -> tuple[str, Examinee]:
        from bloomery.infer.answers import Examinee
        from bloomery.infer.sound import load

        folder = self._folder(role)
        if role not in self._models:
            self._models[role] = identity(folder), Examinee(load(folder))
        return self._models[role]

    def _score(self, pairs: Sequence[Sequence[str]], role: str) -> list[list[float]]:
        seat = self._loaded(role)[1]
        laid_out = [seat.tokenizer.encode_from(context + text, len(context)) for context, text in pairs]
        found = seat.model.score([[seat.begin, *ids] for ids, _ in laid_out])
        return [
            logp[start:].astype("float64").tolist() if text else []
            for (_, text), (_, start), logp in zip(pairs, laid_out, found, strict=True)
        ]

    def _embed(self, texts: Sequence[str], role: str, pooling: str) -> list[str]:
        """Vectors as text, as replies are written down."""
        from bloomery.infer.embed import pooled

        seat = self._loaded(role)[1]
        found = pooled(seat.model.net, [[seat.begin, *seat.tokenizer.encode(text)] for text in texts], pooling)
        return [base64.b64encode(vector.tobytes()).decode() for vector in found]

    def _complete(self, prompts: Sequence[str], role: str, how: Mapping[str, Any]) -> list[list[Any]]:
        from bloomery.infer.asks import Ask
        from bloomery.infer.engine import Engine
        from bloomery.infer.model import sampling

        seat = self._loaded(role)[1]
        model, context = seat.model, seat.model.net.cfg.context
        filters = sampling(how["temperature"], how["top_k"], how["top_p"])
        room = max(1, context - min(how["limit"], -(-context // 2)))
        asks, dropped = [], []
        for prompt in prompts:
            ids = model.question([("user", prompt)]) if model.template and how["chat"] else [seat.begin, *seat.tokenizer.encode(prompt)]
            dropped.append(max(0, len(ids) - room))
            rng = Rng((how["seed"], "ask", hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()))
            asks.append(Ask(tuple(ids[-room:]), how["limit"], filters, rng, tuple(how["stop"]), frozenset(model.decoder.stop_ids)))
        ends: dict[int, Any] = {}
        done = threading.Event()

        def sink(i: int, end: Any) -> None:
            if hasattr(end, "reason"):
                ends[i] = end
                if len(ends) == len(asks):
                    done.set()

        with Engine(model.net, model.tokenizer, min(SLOTS, len(asks)), len(asks)) as engine:
            engine.submit(asks, [lambda end, i=i: sink(i, end) for i in range(len(asks))])
            while not done.wait(0.2):
                if not engine.alive:
                    raise RuntimeError(f"the model in the role {role!r} stopped answering")
        if failed := next((end.error for end in ends.values() if end.reason == "failed"), ""):
            raise RuntimeError(f"the model in the role {role!r} failed: {failed}")
        return [[ends[i].text, ends[i].reason, dropped[i]] for i in range(len(asks))]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (N, D) of length 1; one of zeros stays."""
    import numpy as np

    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-30)


def identity(folder: Path) -> str:
    """What a model's content is known by: the address on its card, else a hash of its files."""
    card = folder / "card.json"
    if card.is_file():
        address = json.loads(card.read_text(encoding="utf-8")).get("address")
        if isinstance(address, str) and address:
            return address
    if not folder.is_dir():
        return str(folder)  # a hub id
    return key_of({str(path.relative_to(folder)): sha256_file(path) for path in files_below(folder)})


def _cut(questions: Sequence[Any], size: Callable[[Any], int], most: int) -> Iterator[list[Any]]:
    """Questions in order, in batches that reach `most`."""
    batch, held = [], 0
    for one in questions:
        batch.append(one)
        held += size(one)
        if held >= most:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch
