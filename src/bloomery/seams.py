"""The protocols of bloomery's 22 seams, on one page.

A seam is a place where published techniques differ. A method is one frozen dataclass in `methods/<seam>/<name>.py` whose
fields are its knobs and whose methods are the verbs below. Verbs marked "optional" may be absent. Names that belong to torch
or to other heavy libraries stand under TYPE_CHECKING or in quotes, so that this page imports only the standard library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

# ---- what is handed to methods ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Clock:
    """The only thing schedules and batching may depend on; stored with the training state, so that a resume replays it."""

    step: int  # optimizer steps done
    tokens: int  # tokens trained on so far
    batch: int  # tokens per step now
    total: float | None  # planned tokens; None = open ended
    seen: Mapping[str, float] = field(default_factory=dict)  # last measured numbers, e.g. "loss/heldout"


@dataclass(frozen=True)
class Rng:
    """A counter-based source of randomness: the key is the seed, so the same key gives the same numbers anywhere.

    `core/rng.py` turns a key into a numpy, torch or standard-library generator; no global generator is ever used.
    """

    key: tuple[int | str, ...]

    def child(self, *parts: int | str) -> Rng:
        """The independent stream of this key extended by `parts`, for example `rng.child("step", 12)`."""
        return Rng((*self.key, *parts))


@dataclass
class Doc:
    """One document; `spans` are (start, stop, weight) ranges to be trained on, empty for all of it: characters of `text`, and where
    a view gets the document, tokens of the piece at hand."""

    id: str
    text: str
    meta: dict[str, Any] = field(default_factory=dict)
    spans: list[tuple[int, int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Drop:
    """Why a document was left out."""

    reason: str


@dataclass
class Batch:
    """One micro-batch of packed rows, all of shape (rows, tokens); `documents` numbers the piece each token belongs to, -1 for padding."""

    inputs: Tensor  # int64 token ids
    targets: Tensor  # int64 token ids
    weights: Tensor  # float32, 0 where nothing is trained
    positions: Tensor  # int64, from 0 in every piece
    documents: Tensor  # int64


@dataclass(frozen=True)
class Vocab:
    """What a view may know of the vocabulary: how many ids there are, and which stand for no text."""

    size: int
    pad: int
    bos: int
    eos: int
    spare: tuple[int, ...] = ()  # ids that no text contains: masks, sentinels, marks of a mode


@dataclass(frozen=True)
class Pool:
    """The documents that a batching draws from, as numpy columns with one entry a document."""

    lengths: Any  # int64, inputs: one fewer than the document's tokens
    row: int  # inputs that a row holds
    domain: Any = None  # int64, place in `domains`; None: all documents are of one kind
    domains: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Item:
    """One question of a task: `want` says what the model does with it.

    With `messages`, (role, content) pairs that end with the user's, the model's chat template lays the question out; `prompt` is then
    the same question as plain text, for a model that has no template.
    """

    id: str
    prompt: str
    want: Literal["score", "generate"]
    target: str = ""  # score: the text whose log-probability is asked; generate: the reference answer
    limit: int = 64  # generate: tokens at most
    stop: tuple[str, ...] = ()  # generate: strings that end a completion
    group: str = ""  # items of one group (package, source) are not independent
    messages: tuple[tuple[str, str], ...] = ()
    kind: str = ""  # what sort of question it is, where a task has several
    tests: str = ""  # generate: what decides beside the reference: a function's tests, a program, the data that a grade needs
    numbers: tuple[float, ...] = ()  # score: one for each token of the target, which the grade needs
    draws: int = 0  # score: so many times a token of the model's own is drawn in the place of each of the target's
    question: str = ""  # items of one question (its answers, candidates, rounds) make one figure: they are contaminated together


@dataclass(frozen=True)
class Episode:
    """One sampled or scored trajectory, or a node of a tree of them (`parent`)."""

    id: str
    item: str
    text: str = ""  # what was generated
    tokens: tuple[int, ...] = ()
    logp: tuple[float, ...] = ()  # natural log-probability of each token
    trained: tuple[bool, ...] = ()
    parent: str | None = None
    role: str = "net"
    ended: Literal["stop", "limit", ""] = ""
    drawn: tuple[tuple[float, ...], ...] = ()  # of each of the item's draws, log-probabilities of the tokens drawn in the places of its own


@dataclass(frozen=True)
class Grade:
    """A task's verdict on one episode; a reward is a task's grade."""

    score: float
    parts: Mapping[str, float] = field(default_factory=dict)
    per_token: tuple[float, ...] | None = None


@dataclass
class Source:
    """A model with what goes with it: its tokenizer, documents, and conversations.

    A conversation is a Doc whose `text` is the answer; its `meta` holds `messages`, the (role, content) pairs before it, `plain`, the
    same question as ordinary text, `kind` and `package`.
    """

    net: Any = None
    tokenizer: Any = None
    docs: Sequence[Doc] = ()
    chats: Sequence[Doc] = ()
    trained: Sequence[Doc] = ()  # documents that the model was trained on, where `docs` are held out
    questions: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # rows of local JSON, by the file's name
    folder: Path | None = None  # where the questions' files lie, for what rows name beside them


@dataclass(frozen=True)
class Site:
    """A place in a model: `nn/` names its sites, so methods never search for modules by string."""

    kind: Literal["linear", "mixer", "mlp", "norm", "block", "stack", "embed", "head"]
    name: str
    layer: int  # -1 outside the blocks
    of: int  # number of blocks


class Tools(Protocol):
    """Other models, the sandbox and indexes, handed down by the stage: priced by the planner, replies cached, addresses in
    the lineage. A method declares `needs = ("score:teacher", "run")`; an unbound need is a bad recipe (exit 2). A vector of a text is a
    mean of hidden states, `pooling` says how they weigh."""

    def ask(self, prompts: Sequence[str], role: str = "default", **sampling: Any) -> list[Any]: ...
    def score(self, pairs: Sequence[tuple[str, str]], role: str = "default") -> list[tuple[float, ...]]: ...
    def embed(self, texts: Sequence[str], role: str = "default", pooling: str = "weighted") -> Any: ...
    def sketch_grad(self, texts: Sequence[str], dim: int, role: str = "default") -> Any: ...
    def run(self, code: str, files: Mapping[str, bytes] = {}, limit_s: float = 5) -> Any: ...
    def search(self, query: Any, k: int, role: str = "default") -> list[tuple[str, float]]: ...
    def grade(self, item: Item, episode: Episode) -> Grade: ...


# ---- data ---------------------------------------------------------------------------------------------------------------


class Signal(Protocol):
    """Per-document numbers, computed once; thresholds live in recipes."""

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]: ...


class Edit(Protocol):
    """Cleaning, rewriting and synthesis alike; the driver batches, caches and resumes per document."""

    def draw(self, seeds: Sequence[Doc], rng: Rng) -> Iterator[Doc]: ...  # optional: several seeds make one job
    def edit(self, doc: Doc, tools: Tools | None, rng: Rng) -> list[Doc] | Drop: ...


class Select(Protocol):
    """Weights per document under a budget; 0 drops a document, 2 writes it twice. `columns` maps names to equally long columns, of which
    "cost" is what each document takes of the budget: bytes, tokens, or any other column's sum. Of `needs = ("embed:encoder:weighted",)`
    there is a column of that name: a vector for each document, float32 (documents, width), read from disk where some are asked for by
    ascending places; texts are a sequence that is read from disk as it is gone through."""

    reads: ClassVar[tuple[str, ...]]  # optional: ("text",) asks for the texts too

    def weigh(self, columns: Mapping[str, Any], budget: float, rng: Rng) -> Any: ...


# ---- train --------------------------------------------------------------------------------------------------------------


class Optim(Protocol):
    """A direction from a gradient. Rate, decay, gathering and stacking belong to the driver; `p` is read-only.

    scope "element": acts on each number alone, so the driver may concatenate or shard freely; "matrix": the driver hands
    over whole matrices on one owner rank. `update` is `direction` and what the driver does with it in one pass over memory: `p` is
    decayed by rate x decay and moved in place. `space`, here as at any seam, is where a fair search looks: knobs of the method, or of the
    stage around it such as `rate`, each with a range (low, high), searched by its logarithm, or a list of choices.
    """

    space: ClassVar[Mapping[str, Any]]  # optional

    scope: ClassVar[Literal["element", "matrix"]]

    def init(self, like: Tensor) -> dict[str, Tensor]: ...
    def direction(self, g: Tensor, p: Tensor, s: dict[str, Tensor], t: int, rng: Rng) -> Tensor: ...
    def update(self, g: Tensor, p: Tensor, s: dict[str, Tensor], t: int, rate: float, decay: float) -> None: ...  # optional, "element"


class Schedule(Protocol):
    """A value that depends on the clock alone: rate, decay, batch, length, sparsity, mixture."""

    def value(self, clock: Clock) -> float | dict[str, float]: ...


class Backward(Protocol):
    """Owns forward and backward: accumulation, streaming, per-example, zeroth order. `value(net, micro)` is one micro-batch's
    share of the step's loss, also for some of its rows, and for anything in the place of `net` that is called like it; `value.seen` is
    what the loss saw of all rows together. Gradients are left in `.grad`. `divides = True` says that what it leaves and returns for some
    micro-batches adds up to that of all, so that ranks can share a step. `transform` changes the step's gradients in place and returns
    numbers; `norm` is that of all ranks' gradients together."""

    divides: ClassVar[bool]  # optional

    def backward(self, net: nn.Module, micros: Sequence[Batch], value: Callable[..., Any], rng: Rng) -> dict[str, float]: ...
    def transform(self, grads: Sequence[Tensor], norm: float | None = None) -> dict[str, float]: ...  # optional: clipping, noise


class Saved(Protocol):
    """What the backward pass keeps of an activation; parameters are never offered. `site` is the innermost place that computes.

    A method with `again` is offered nothing: the sites that it chooses keep their inputs and are computed twice."""

    def again(self, site: Site) -> bool: ...  # optional
    def pack(self, t: Tensor, site: Site) -> Any: ...
    def unpack(self, h: Any) -> Tensor: ...


class Loss(Protocol):
    """Sums with their denominators: the denominators are known before any forward, so accumulation is exact.

    `roles` hold the trained model as "net", the parts by their names, which are trained with it, and further models, which are not.
    `opens = True` says that the loss looks inside the model by hooks, which a compiled block does not have.
    """

    roles: ClassVar[tuple[str, ...]]  # ("net", "teacher"): bound to artifacts in the recipe

    def parts(self, net: nn.Module, rng: Rng) -> dict[str, nn.Module]: ...  # optional: heads, critics; dropped at export
    def weigh(self, batch: Batch) -> dict[str, float]: ...
    def look(self, roles: Mapping[str, nn.Module], batch: Batch, rng: Rng) -> dict[str, Tensor]: ...  # optional: the GLOBAL batch first
    def terms(self, roles: Mapping[str, nn.Module], batch: Batch, seen: Mapping[str, Tensor], rng: Rng) -> dict[str, Tensor]: ...


class View(Protocol):
    """One piece of a document's tokens -> what the step trains on: dicts of equally long inputs, targets, weights, positions.

    A view that adds marks makes more inputs than it was given: `room` is how many inputs of documents it can lay out within a row.
    `marks` is how many spare ids it needs.
    """

    marks: ClassVar[int]  # optional

    def room(self, row: int) -> int: ...  # optional
    def view(self, ids: Sequence[int], doc: Doc | None, vocab: Vocab, clock: Clock, rng: Rng) -> list[dict[str, Any]]: ...


class Batching(Protocol):
    """The global batch as rows of pieces (document, start, stop), in inputs. Free of torch and of ranks. `uneven = True` says that the
    rows of a step are as long as its longest, which changes from step to step; otherwise all are padded to one length."""

    uneven: ClassVar[bool]  # optional

    def plan(self, pool: Pool, state: Any, clock: Clock, rng: Rng) -> tuple[list[list[tuple[int, int, int]]], Any]: ...


class Parallel(Protocol):
    """How a model and a batch are laid over the `axes` of a mesh, a train.mesh.Mesh; `exact = False` says its tolerance in the claim.

    `place` changes the model in place before any step, and says on the mesh which parameters have other homes, orders or partial gradients,
    and what `pipe` runs its stages; where it cuts matrices, `adapts = True` says that it cuts the thin ones of an adapter beside them too,
    and `eager = True` that blocks cannot be compiled with it. `split` gives a rank its part of a micro-batch. `before` is called when
    micro-batch `number` of `of` begins, and with -1 when a loss looks at the whole step. `unfit` says, before any work, why a model of this
    config and rows of so many tokens cannot be laid over these sizes, "" where they can.

    A method without axes goes with those that there are. `pieces` says of the optimizer's flat buffers of so many numbers, as (start, stop,
    place, worker), where each lies between updates (host, disk) and who makes the update (host, device); with `resident` the working
    weights lie there too, those of so many blocks at a time in memory, `together` of which leave at once. With `local = True` ranks move by
    their own gradients: `after` then brings them together, `settled` says after which steps they are the same, and `begin` gives what is
    kept for it, laid out as the masters are.
    """

    axes: ClassVar[tuple[str, ...]]
    exact: ClassVar[bool]
    adapts: ClassVar[bool]  # optional
    eager: ClassVar[bool]  # optional
    local: ClassVar[bool]  # optional

    def place(self, net: nn.Module, mesh: Any) -> nn.Module: ...
    def unfit(self, cfg: Any, row: int, sizes: Mapping[str, int]) -> str: ...
    def split(self, batch: Batch, mesh: Any) -> Batch: ...  # optional
    def before(self, net: nn.Module, mesh: Any, number: int, of: int) -> None: ...  # optional
    def pieces(self, numbers: int) -> list[tuple[int, int, str, str]]: ...  # optional
    def begin(self, master: Tensor) -> dict[str, Tensor]: ...  # optional, with `after` and `settled`
    def after(self, mover: Any, mesh: Any, step: int, last: bool) -> None: ...  # optional
    def settled(self, step: int) -> bool: ...  # optional


# ---- model --------------------------------------------------------------------------------------------------------------


class Module(Protocol):
    """Builds the nn.Module of a site, or None to leave it: forward(x) at a linear, forward(x_BTD, ctx) at mixer, mlp and block, where
    `ctx` is the nn.context.Context of the pass, whose `aux` takes what a loss asked for. `before_step` may change the module as the
    clock says: it is called before every step, with the same `rng` for all modules of a method, and a resumed run calls it again. `link`
    is called once with all modules that a method has built, in the order of the forward pass: they may hand things on to each other."""

    site: ClassVar[str]

    def build(self, cfg: Any, site: Site, old: nn.Module, rng: Rng) -> nn.Module | None: ...
    def link(self, modules: Sequence[nn.Module]) -> None: ...  # optional
    def before_step(self, m: nn.Module, clock: Clock, rng: Rng) -> None: ...  # optional: masks, widths, re-factorisation
    def export(self, m: nn.Module) -> nn.Module: ...  # optional: a plain module that computes the same; without it, refused by name


class Init(Protocol):
    """0 sources: initialization; 1: growth, transfer; n: merging. `docs` of a source are text of the kind that it was trained on.

    An init may say how a model of this size is to be built and trained: `shape` gives its configuration the multipliers that go with the
    weights, and `rates` are factors on the rates of parameters by name, 1 where one is not named. `elementwise = True` says that these
    factors are for optimizers of scope "element", `draws = True` that all weights are drawn and no source is read.
    """

    draws: ClassVar[bool]  # optional
    elementwise: ClassVar[bool]  # optional

    def shape(self, cfg: Any) -> Any: ...  # optional
    def rates(self, net: nn.Module) -> dict[str, float]: ...  # optional
    def apply(self, into: Source, sources: Sequence[Source], tools: Tools | None, rng: Rng) -> None: ...


class Adapter(Protocol):
    """Wraps a site: what it returns takes the unit's place, None leaves it. `parts` are the (name, rows) of the matrices that a fused
    linear holds one under the other, so that each can be adapted by itself; `merge` returns a linear that computes the same, or None
    where it cannot, which the card says. `whole = True` says that it cannot be stored beside its base, and is merged at the end of
    training; `keeps_zeros = True` that weights of the base that are zero are zero in what it merges to."""

    whole: ClassVar[bool]  # optional
    keeps_zeros: ClassVar[bool]  # optional

    def wrap(self, unit: nn.Module, site: Site, parts: Sequence[tuple[str, int]], score: float | None, rng: Rng) -> nn.Module | None: ...
    def merge(self, unit: nn.Module) -> nn.Module | None: ...


class Compress(Protocol):
    """Statistics of one unit, an allocation over units, and the smaller unit, whose forward gives what the stored numbers stand for.

    `reads` names what `collect` looks at; the driver computes nothing else and hands over None for it. `x` and `y` are the unit's
    inputs and outputs as (rows, width), `g` the gradient of the loss, in nats of a sequence, at its outputs; padding is left out.
    `solve` gets what the already smaller model before a unit brings to it, and where `g` is read, what the source model does.
    `allocate` gets the statistics of all units of the source model, the units, the bytes that they may take together (infinite: no
    limit) and `measure`: the source model's nats per token with other units in the place of those named. What it says of a unit,
    be it numbers or the solution itself, `solve` gets as `knobs`. `fit` trains a unit against its outputs and `tail` is the rest of
    the block; both are None where the driver offers none.

    In `acc` the driver has put the unit's `name`. A method that rounds activations has `attend`, called before the linears of a block are
    solved: of some sequences it gets `q` (T, H, E) before it is scaled, `k` and `v` (T, K, E) and the attention `weights` (H, T, T), and
    gives the grids to which that attention rounds them from then on.

    Compression that trains: `settle` gets a block whose linears are solved, these as they were in the source, by their names in the block,
    and `rows`, which gives pieces of so many sequences at most: a function of no arguments for the block's outputs (rows, width) with
    gradients, and the outputs of the source's block. Where `ends` is true, `finish` gets the whole model, the names of its solved linears
    and `nats`: for batches of so many tokens at most, functions for the mean nats of a token with gradients. Both change it in place.
    """

    reads: ClassVar[tuple[str, ...]]  # of "x", "y", "g"

    def collect(self, acc: dict[str, Any], x: Tensor | None, y: Tensor | None, g: Tensor | None) -> None: ...
    def allocate(
        self, stats: Mapping[str, Any], units: Mapping[str, nn.Module], budget: float, measure: Callable[[Mapping[str, nn.Module]], float]
    ) -> dict[str, dict[str, Any]]: ...  # optional: knobs per unit
    def solve(self, unit: nn.Module, acc: dict[str, Any], knobs: dict[str, Any], fit: Any, tail: Any) -> nn.Module: ...
    def attend(self, seen: Sequence[Mapping[str, Tensor]]) -> Any: ...  # optional: nn.inputs.Rounds
    def settle(self, block: nn.Module, whole: Mapping[str, nn.Module], rows: Callable[[int], Any]) -> None: ...  # optional
    def finish(self, net: nn.Module, names: Sequence[str], nats: Callable[[int], Any]) -> None: ...  # optional


# ---- measure and use ----------------------------------------------------------------------------------------------------


class Filter(Protocol):
    """Rewrites the next-token logits of each row; `reads` names what it looks at, e.g. ("logits:net", "logits:expert"). A role beside
    net is a further model of the same tokens; "tokens" are those so far, which may be None where `reads` does not name them."""

    reads: ClassVar[tuple[str, ...]]

    def filter(self, tokens_BT: Tensor, seen: Mapping[str, Tensor]) -> Tensor: ...


class Engine(Protocol):
    """Whoever answers items: `n` episodes of each in order, with the log-probabilities of their tokens; of a scored item there is one."""

    def sample(self, items: Sequence[Item], n: int, rng: Rng) -> list[list[Episode]]: ...


class Rollout(Protocol):
    """A strategy of sampling: search, voting, tools, turns, trees. Episodes that are nobody's `parent` are answers, at least one an
    item; of several answers to an item the best grade counts, so a rollout bounds how many it gives. Items come in batches with the
    same `rng`: what is drawn for an item is drawn from a child named by its id, so that its company changes nothing."""

    def rollout(self, engine: Engine, items: Sequence[Item], tools: Tools, rng: Rng) -> list[Episode]: ...


class Task(Protocol):
    """Questions, grades and a summary with intervals. A reward is a task's grade: one piece of code for both."""

    subject: ClassVar[Literal["model", "index", "tokenizer", "text"]]
    trained: ClassVar[bool]  # optional: True asks for Source.trained

    def library(self, source: Source) -> Mapping[str, str]: ...  # optional: documents by id that `search` of the tools looks through

    def items(self, source: Source, rng: Rng) -> Iterator[Item]: ...
    def grade(self, item: Item, episode: Episode, tools: Tools | None) -> Grade: ...
    def summary(self, rows: Sequence[tuple[Item, Episode, Grade]], rng: Rng) -> dict[str, float]: ...
    def compare(
        self, rows: Sequence[tuple[Item, Episode, Grade]], others: Sequence[tuple[Item, Episode, Grade]], rng: Rng
    ) -> dict[str, float]: ...  # optional: paired differences, rows minus others, of the same items; else of the mean score
    def rights(self, rows: Sequence[tuple[Item, Episode, Grade]]) -> tuple[list[float], list[str]]: ...  # optional: 1 or 0 by question


class Index(Protocol):
    """A searchable folder of documents."""

    def build(self, docs: Iterator[Doc], tools: Tools) -> Path: ...
    def search(self, folder: Path, queries: Sequence[Any], k: int) -> list[list[tuple[str, float]]]: ...


# ---- decide -------------------------------------------------------------------------------------------------------------


class Law(Protocol):
    """Fitted to finished runs (equally long columns), a plain dict; predicts mean, low and high of new ones, as numbers or columns."""

    def fit(self, runs: Mapping[str, Any]) -> Any: ...
    def predict(self, law: Any, query: Mapping[str, Any]) -> Mapping[str, Any]: ...


class Planner(Protocol):
    """A layout for a job on a cluster, from a model of both and from measurements. With `meshes = True` it can choose the mesh of a run:
    the plan's "meshes" are then dicts of "sizes" and predicted "seconds" of a step, the best first."""

    meshes: ClassVar[bool]  # optional

    def plan(self, job: Mapping[str, Any], cluster: Mapping[str, Any], measured: Mapping[str, Any] | None) -> Mapping[str, Any]: ...


class Search(Protocol):
    """The next trials, from the finished ones in order; an empty list stops. A history that ends within a batch gets the batch's rest.

    A trial maps knobs to values (`optimizer.galore.rank` reaches inside); its reserved keys are `parent`, the place in the history of
    the trial whose model it goes on from, and `phase`, a number or word for whoever runs it. A failed trial has no figures."""

    def propose(self, history: Sequence[tuple[Mapping[str, Any], Mapping[str, float]]], rng: Rng) -> list[Mapping[str, Any]]: ...


SEAMS: dict[str, type] = {
    "signal": Signal, "edit": Edit, "select": Select,
    "optim": Optim, "schedule": Schedule, "backward": Backward, "saved": Saved, "loss": Loss,
    "view": View, "batching": Batching, "parallel": Parallel,
    "module": Module, "init": Init, "adapter": Adapter, "compress": Compress,
    "filter": Filter, "rollout": Rollout, "task": Task, "index": Index,
    "law": Law, "planner": Planner, "search": Search,
}  # fmt: skip
