"""Pretraining: token shards in, a language model out; or an encoder, where attention is bidirectional."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast, Job
from bloomery.core.machine import Machine
from bloomery.nn.config import Config
from bloomery.seams import Adapter, Backward, Batching, Clock, Init, Loss, Module, Optim, Parallel, Planner, Rng, Saved, Schedule, View
from bloomery.stages import _adapted, _mesh, _pretrain_write, _teacher, _training
from bloomery.stages._pretrain_begin import begin, keep, rehearsed, sound_start
from bloomery.stages._shape import effective, further
from bloomery.train.record import check_audit, hash_weights, lossy

if TYPE_CHECKING:
    from bloomery.core.store import Artifact

TOKENIZER_BYTES, CURVE_BYTES = 64, 290  # on disk per entry of the vocabulary and per step (measured)
CHECKED_TOKENS = 16384  # tokens that are scored again from the weights read back


@dataclass(frozen=True)
class Pretrain:
    """Train a model on token shards, from random weights or from what other models give."""

    data: Annotated[Artifact, "tokens"]
    width: int = 192  # numbers in the residual stream
    layers: int = 6  # blocks
    heads: int = 3  # query heads
    kv_heads: int = 0  # key and value heads; 0 = as many as query heads
    ffn: int = 512  # width of the feed-forward layers
    experts: int = 0  # feed-forwards of a layer, to `top` of which each token goes; 0 = one for all tokens
    top: int = 2  # experts that a token goes to
    expert_ffn: int = 0  # width of an expert; 0 = ffn / top, so that a token costs the same
    shared_ffn: int = 0  # width of a further feed-forward that every token goes to; 0 = none
    model: dict | None = None  # further fields of the model, see docs/models.md, such as {qk_norm: true, windows: [128, 0]}
    context: int = 256  # tokens of a row
    tokens: int = 3_000_000  # tokens to read, trained or not
    batch: int = 1024  # tokens per step, at least a context; rounded down to whole rows
    micro: int = 0  # rows of a micro-batch at most: the largest number that divides the step's is taken; 0 = chosen
    rate: float = 2e-3  # peak learning rate
    decay: float = 0.1  # weight decay of matrices
    optimizer: Optim = "adamw"  # direction of a step
    rest: Optim = "adamw"  # what moves the parameters that an optimizer of matrices leaves
    schedule: Schedule = "wsd"  # share of the rate over the run
    backward: Backward = "autograd"  # forward and backward pass
    loss: Loss = "cross_entropy"  # what is minimised
    view: View = "causal"  # what a piece of text trains on
    batching: Batching = "packed"  # which text comes when
    init: Init = "scaled_normal"  # weights before the first step
    modules: tuple[Module, ...] = ()  # what takes the place of the model's own parts
    saved: Saved | None = None  # what the backward pass keeps of activations; none: everything, as it is
    adapter: Adapter | None = None  # what is trained beside frozen weights and folded in at the end: perp or l4q; none: every weight
    train_also: tuple[str, ...] = ()  # trained whole beside an adapter: embed, head, norms, biases
    keep_zeros: bool = False  # weights of the blocks' matrices that are zero stay so: for models that were pruned
    causal: bool = True  # each token sees those before it; false: all of its piece
    start: tuple[Annotated[Artifact, "model"], ...] = ()  # models that the init reads
    texts: tuple[Annotated[Artifact, "tokens"], ...] = ()  # the text of each of them, for an init that reads it
    after: Annotated[Artifact | None, "model"] = None  # go on from this model and its trainer state
    roles: Annotated[dict[str, Artifact] | None, "model"] = None  # further models of the loss, such as {teacher: $big}
    keep_state: bool = False  # keep the trainer state, so that another run can go on `after` this one
    precision: Literal["auto", "bfloat16", "float32", "float8"] = "auto"  # format of the working weights; masters are float32
    device: Literal["auto", "cpu", "cuda"] = "auto"  # what trains; auto: a GPU where torch has one
    deterministic: bool = False  # torch's deterministic algorithms: the same bits on a GPU too
    compile: bool | Literal["auto", "on", "off"] = "auto"  # auto: where there is a C++ compiler and the run is long enough
    evaluate_every: int = 0  # steps between held-out measurements; 0 = about six in the run
    evaluate_tokens: int = 65536  # held-out tokens of one measurement
    checkpoint_seconds: float = 30.0  # seconds between checkpoints
    checkpoint_steps: int = 0  # also every so many steps; 0 = never
    checkpoints_kept: int = 2  # the newest so many; the others are removed
    weights_every: int = 0  # steps between copies of the weights alone, all of which stay with the model; 0 = none
    spikes: Literal["off", "stop", "dump", "skip", "back"] = "dump"  # a loss that leaps: ids of its documents are written; skip: no update
    spike_window: int = 64  # losses of which the median and the spread set the limit, see train/spikes.py
    spike_sigmas: float = 8.0  # robust standard deviations above the median at which a loss leaps
    mesh: dict[str, int] | Literal["auto"] = "auto"  # processes along data, shard, pipeline...; auto: as the planner chooses
    planner: Planner = "ranked"  # what chooses the mesh, where it is auto
    parallel: tuple[Parallel, ...] = ()  # how the axes are laid out, where not as usual: [{zero: {stage: 2}}]
    stall_seconds: float = 1800.0  # where no step ends for so long, all stacks are printed and the process ends; 0 = never
    report_to: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()  # trackers that get the figures of every step
    makes: ClassVar[str] = "model"
    needs: ClassVar[tuple] = ("torch",)
    together: ClassVar[bool] = True  # all processes of a launch make it
    apart: ClassVar[tuple] = ("mesh", "planner", "parallel")  # these change the last digits alone, and a run may go on with others

    def __post_init__(self) -> None:
        for name in ("tokens", "batch", "evaluate_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch < self.context:
            raise ValueError(f"batch must be at least context, one row of {self.context} tokens, got {self.batch}")
        if self.rate <= 0 or self.decay < 0:
            raise ValueError(f"rate must be above 0 and decay not negative, got {self.rate} and {self.decay}")
        if not self.experts and (self.expert_ffn or self.shared_ffn):
            raise ValueError("expert_ffn and shared_ffn go with experts, of which there are none")
        if catalog.attribute("init", self.init, "elementwise") and catalog.attribute("optim", self.optimizer, "scope") == "matrix":
            raise ValueError("the rates of this init are for optimizers of single numbers, such as adamw, and not for this one of matrices")
        sound_start(self)
        _training.sound(self)
        _adapted.sound(self)
        if not _adapted.whole(self) or (self.adapter is not None and self.modules):
            raise ValueError("adapter: here it is folded into a plain model at the end, which perp and l4q are; tune stores others")
        if self.adapter is not None and self.keep_state:
            raise ValueError("keep_state: what is trained beside an adapter cannot be gone on with once it is folded in; leave it out")
        self.config(1)

    def config(self, vocab: int) -> Config:
        """The model's shape over a vocabulary; ValueError where the knobs make none."""
        kv_heads, ffn, mixed = self.kv_heads or self.heads, self.ffn, {}
        if self.experts:
            ffn = self.expert_ffn or max(1, self.ffn // max(1, self.top))
            mixed = {"experts": self.experts, "top": self.top, "shared_ffn": self.shared_ffn, "architecture": "mixtral"}
        mixed |= further(self.model or {})
        made = Config(vocab, self.width, self.layers, self.heads, kv_heads, ffn, self.context, causal=self.causal, **mixed)
        return effective(made, self.model or {})

    @property
    def rows(self) -> int:
        """Rows of a step."""
        return self.batch // self.context

    def mode(self) -> dict:
        """What decides the last digits. Known before the vocabulary is, so that a plan can name the address."""
        return _training.mode(self, self.tokens * self.config(1).flops_per_token(self.context))

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """From a rehearsal of one step without numbers and what its operations take on this machine, see docs/plan.md."""
        from bloomery.stages import _forecast
        from bloomery.train.batches import enough
        from bloomery.train.trackers import demand

        demand(self.report_to)
        enough(self.view, inputs["data"].facts.get("spare"))
        _teacher.bound(self)
        cfg = self.config(int(inputs["data"].facts.get("vocab") or self.words()))
        load = self.load(cfg, inputs)
        found = _forecast.needs(load, machine)
        parameters, step, steps = cfg.parameters(), self.rows * self.context, load.steps
        facts = {"parameters": parameters, "tokens": steps * step, "steps": steps, "vocab": cfg.vocab, "config": asdict(cfg)}
        facts |= {"flops": steps * step * cfg.flops_per_token(self.context), **found.facts()}
        checkpoint = found.checkpoint + 4096
        copies = steps // self.weights_every if self.weights_every else 0
        facts["work_disk"] = (self.checkpoints_kept + 1) * checkpoint + 4 * parameters * copies + found.shelved  # one more is being written
        disk = 4 * parameters * (1 + copies) + TOKENIZER_BYTES * cfg.vocab + CURVE_BYTES * steps + 20e3
        return Forecast(sum(found.seconds.values()), sum(found.memory.values()), disk, facts)

    def fitting(self, forecast: Forecast, inputs: dict[str, Forecast], machine: Machine, limit: float) -> list:
        """Settings that need at most `limit` bytes, as `_fit.fitting` finds them."""
        from bloomery.stages import _fit

        return _fit.fitting(self, forecast, inputs, machine, limit)

    def launch(self, forecast: Forecast) -> None:
        """BadInput where the processes that were started cannot share the run."""
        _mesh.launch(self, forecast)

    def words(self) -> int:
        """The vocabulary of data from outside, of which no facts are known; a usual one where they are still to be made."""
        from bloomery.data.tokenizer import Tokenizer

        there = self.data is not None and self.data.path("tokenizer.json").is_file()
        return Tokenizer.load(self.data.folder).vocab if there else 4096

    def load(self, cfg: Config, inputs: dict[str, Forecast]) -> Any:
        """What is rehearsed of this run."""
        from bloomery.stages._load import Load
        from bloomery.train.batches import micro_rows

        mode, steps = self.mode(), -(-self.tokens // (self.rows * self.context))
        every = self.evaluate_every or max(1, steps // 6)
        text = 2 * min(self.tokens, float(inputs["data"].facts.get("train_tokens") or self.tokens))  # bytes of shards that are read
        return Load(
            stage="pretrain",
            make=functools.partial(rehearsed, self, cfg, mode["precision"]),
            loss=self.loss,
            backward=self.backward,
            saved=self.saved,
            rows=self.rows,
            micro=micro_rows(self.rows, self.micro, self.context),
            context=self.context,
            steps=steps,
            scored=-(-steps // every) * self.evaluate_tokens + 2 * min(CHECKED_TOKENS, self.evaluate_tokens),
            text=int(text),
            reread=4 * cfg.parameters(),
            device=_training.device_of(mode),
            compiled=mode["compile"],
            precision=mode["precision"],
            threads=mode["threads"],
            save_seconds=self.checkpoint_seconds,
            save_steps=self.checkpoint_steps,
            **_mesh.laid(self, cfg, self.context),
            shelved=_mesh.shelved(self),
            resident=_mesh.resident(self),
        )

    def run(self, job: Job) -> None:
        """Resolve, train, measure, write."""
        import torch

        from bloomery.data.tokenizer import Tokenizer
        from bloomery.nn.modules import buffers
        from bloomery.train import allocator, compiled, float8, heldout, loop
        from bloomery.train.deterministic import deterministic

        mode = self.mode()
        allocator.keep_memory()
        torch.set_num_threads(mode["threads"])
        tokenizer = Tokenizer.load(self.data.folder)
        feed = self.sound_feed(tokenizer, job.rng.child("batches"))
        begun = begin(self, self.config(int(self.data.facts.get("vocab") or tokenizer.vocab)), job)  # outside folders have no facts
        begun.to(_training.device_of(mode))
        mesh = _mesh.mesh(self, begun.cfg, self.context, job)
        mover = _mesh.mover(begun.net, self, mesh, job, begun.rates)
        if mode["precision"] == "float8":
            job.fact("float8", float8.convert(begun.net))
        run = self.training(begun, mover, feed, mesh, job)
        with job.graceful(), deterministic(self.deterministic):
            if mode["compile"]:
                job.fact("compile_seconds", compiled.compile_blocks(begun.net, feed, self.loss, job.log, begun.roles, mesh=mesh))
            outcome = loop.train(run)
        if outcome.resumed:
            job.log.event("resumed")
        job.fact("compiled", mode["compile"])
        _teacher.told(begun.roles, job)
        job.fact("optimizer_state_bytes", mover.state_bytes())
        job.fact("heldout_sample_bits_per_byte", None)  # stays so where nothing is held out
        kind, rows = self.checked(job)
        job.fact(f"{kind}_sample_bits_per_byte", heldout.bits_per_byte(begun.net, rows, self.sizes(begun.cfg), mesh=mesh))
        weights = {**mover.weights(), **buffers(begun.net)}
        if not mesh.first:
            return
        _pretrain_write.write(self, begun.cfg, {name: t.cpu() for name, t in weights.items()}, outcome, job)
        if self.saved is not None:
            job.fact("saved_bytes", begun.watch().peak_bytes)
            job.fact("saved_bytes_without", begun.watch().plain_bytes)
        if self.keep_state:
            keep(job.out, run, outcome.clock.step)

    def training(self, begun: Any, mover: Any, feed: Any, mesh: Any, job: Job) -> Any:
        """The run, with what it measures on the way."""
        import torch

        from bloomery.methods.loss.cross_entropy import CrossEntropy
        from bloomery.train import loop

        mode, steps, rng = self.mode(), -(-self.tokens // (self.rows * self.context)), job.rng.child("train")
        return loop.Training(
            net=begun.net,
            feed=feed,
            loss=self.loss,
            backward=self.backward,
            optimizer=mover,
            schedule=self.schedule,
            rate=self.rate,
            total=steps * self.rows * self.context,
            batch=self.rows * self.context,
            rng=rng,
            evaluate=self.evaluation(begun, mesh, job),
            evaluate_every=self.evaluate_every or max(1, steps // 6),
            reads=True,
            roles=begun.roles,
            before_step=begun.before_step(rng.child("modules")),
            watch=begun.watch,
            earlier=begun.earlier,
            sizes=torch.from_numpy(self.sizes(begun.cfg)).to(_training.device_of(mode))
            if self.causal and type(self.loss) is CrossEntropy
            else None,
            **_training.kept(self, job, mode, begun.cfg.flops_per_token(self.context), mesh),
        )

    def evaluation(self, begun: Any, mesh: Any, job: Job) -> Any:
        """What is measured on held-out rows: how well text is predicted, or, where all tokens are seen, the loss itself."""
        from bloomery.train import heldout

        kind, scored = self.scored_feed(job)
        if kind != "heldout":
            return None
        domains = heldout.by_domain(scored, self.evaluate_tokens) if self.causal else {}
        rows = heldout.sample(scored, self.evaluate_tokens)
        if self.causal:
            compiled = self.mode()["compile"]
            return lambda: heldout.figures(begun.net, rows, self.sizes(begun.cfg), domains, compiled, mesh)
        return lambda: heldout.loss_of(self.loss, {"net": begun.net, **begun.roles}, rows, job.rng.child("scored"))

    def sizes(self, cfg: Config) -> Any:
        """Bytes that each token stands for."""
        from bloomery.train.heldout import token_bytes

        return token_bytes(self.data.path("tokenizer.json"), cfg.vocab)

    def feed(self, shards: Any, rng: Rng) -> Any:
        """Training rows as tensors."""
        from bloomery.data.tokenizer import Tokenizer, vocab_of
        from bloomery.train.batches import Feed, micro_rows

        micro, vocab = micro_rows(self.rows, self.micro, self.context), vocab_of(Tokenizer.load(self.data.folder))
        return Feed(shards, self.batching, self.view, self.context, micro, rng, vocab)

    def scored_feed(self, job: Job) -> tuple[str, Any]:
        """Rows that are only scored: ("heldout", feed), or ("train", feed) where the data hold nothing out.

        Packed whatever the training does, and causal, so that figures compare; where all tokens are seen, as the training has them.
        """
        from bloomery.data.shards import Shards
        from bloomery.data.tokenizer import Tokenizer, vocab_of
        from bloomery.methods.batching.packed import Packed
        from bloomery.methods.view.causal import Causal
        from bloomery.train.batches import Feed, micro_rows

        micro, vocab = micro_rows(self.rows, self.micro, self.context), vocab_of(Tokenizer.load(self.data.folder))
        view = Causal() if self.causal else self.view
        for kind in ("heldout", "train"):
            if self.data.path(kind).is_dir():
                feed = Feed(Shards(self.data.path(kind)), Packed(), view, self.context, micro, job.rng.child("heldout"), vocab)
                if feed.lengths.any():
                    break
        return kind, feed

    def checked(self, job: Job) -> tuple[str, list]:
        """The rows that are scored again after writing, and the part that they are from."""
        from bloomery.train.heldout import sample

        kind, feed = self.scored_feed(job)
        return kind, sample(feed, min(CHECKED_TOKENS, self.evaluate_tokens))

    def preview(self, rng: Rng, most: int) -> Iterator[list[tuple[str, int, float]]]:
        """The first rows of step 1 as (text of the token, id, weight); BadInput for what must never be trained on silently."""
        from bloomery.data.tokenizer import Tokenizer
        from bloomery.train import preview

        tokenizer, clock = Tokenizer.load(self.data.folder), Clock(0, 0, self.rows * self.context, float(self.tokens))
        for row in preview.rows(self.sound_feed(tokenizer, rng.child("batches")), clock, most):
            yield [(tokenizer.decode([token]), token, weight) for piece in row for token, weight in zip(piece.ids, piece.weights)]

    def sound_feed(self, tokenizer: Any, rng: Rng) -> Any:
        """The training rows, after a look at the first ones; BadInput where tokens would be trained on wrongly."""
        from bloomery.data.shards import Shards
        from bloomery.train import preview

        mend = "name a folder that the tokenize step made from some text"
        if not self.data.path("train").is_dir():
            raise BadInput(f"data: {self.data.folder} holds no train/ shards; {mend}")
        shards, clock = Shards(self.data.path("train")), Clock(0, 0, self.rows * self.context, float(self.tokens))
        looked = self.feed(shards, rng)
        if not looked.lengths.any():
            raise BadInput(f"data: {self.data.path('train')} holds no token to train on; {mend}")
        wrong = preview.faults(looked, clock, tokenizer.bos, (tokenizer.eos,) if self.causal else None)
        if wrong:
            raise BadInput("; ".join(wrong))
        if not self.causal and preview.shows_targets(looked, clock):
            raise BadInput("causal: every token is seen, and the view shows what is to be predicted; name another view, such as masked")
        return self.feed(shards, rng)

    def check(self, made: Path, job: Job) -> None:
        """Weights read back are the trained ones and score the same; every parameter was trained; the tokenizer loses nothing."""
        from bloomery.nn.saving import load, plain
        from bloomery.train.experts import check_experts
        from bloomery.train.heldout import bits_per_byte, token_bytes

        facts = job.facts or json.loads((made / "card.json").read_text(encoding="utf-8"))["facts"]
        net = load(made)
        same = hash_weights(plain(net)) == facts["weights_sha256"]
        job.check("weights read back that differ from the trained ones", 0 if same else 1, 0)
        sizes = token_bytes(made / "tokenizer.json", net.cfg.vocab)
        kind, rows = self.checked(job)
        what, note = ("held-out", "") if kind == "heldout" else ("training", "; nothing is held out")
        again, before = bits_per_byte(net, rows, sizes), facts[f"{kind}_sample_bits_per_byte"]
        drift = abs(again / before - 1)
        job.check(f"{what} bits per byte, read back against trained", drift, 0.02, note=f"{again:.4f} against {before:.4f}{note}")
        check_audit(facts["audit"], job)
        if self.start or self.after is not None:
            _adapted.check_zeros(self, (self.after or self.start[0]).folder, made, job)
        check_experts(net, rows, job)
        lost = lossy(made / "tokenizer.json", self.scored_feed(job)[1].shards)
        job.check(f"{what} texts that change in decode(encode(x))", lost, 0)
