"""Tuning: a model and conversations in, a model that answers out; the loss is on the answers alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from bloomery.core.errors import BadInput
from bloomery.core.job import Forecast, Job
from bloomery.core.machine import Machine
from bloomery.seams import Adapter, Backward, Batching, Clock, Loss, Optim, Parallel, Planner, Rng, Schedule, View, Vocab
from bloomery.stages import _adapted, _mesh, _teacher, _training
from bloomery.stages._tune_forecast import LONGEST, answering, whole
from bloomery.stages._tune_measures import compare, copy_words, mean_nats, nats
from bloomery.train.record import check_audit, hash_weights, typical_speed

if TYPE_CHECKING:
    from bloomery.core.store import Artifact
    from bloomery.infer.model import Model
    from bloomery.train.conversations import Conversations

LOOKED_AT = 64e6  # bytes of data from outside that are read once more, before any work, to see that they can be
DRIFT = {
    "float32": 1e-4,
    "bfloat16": 0.02,
    "float8": 0.05,
}  # share by which held-out nats may differ from those of the weights in working precision


@dataclass(frozen=True)
class Tune:
    """Fine-tune a model on conversations, all of it or through an adapter, the loss on the answers alone."""

    model: Annotated[Artifact, "model"]  # what is tuned: a step, or a folder such as a Hugging Face one
    data: Annotated[Artifact, "chats"]  # conversations: a step, or a file or folder of messages, ShareGPT, Alpaca or prompt/completion
    adapter: Adapter | None = None  # small trained parts beside frozen weights; none: every weight is trained
    train_also: tuple[str, ...] = ()  # trained whole beside an adapter: embed, head, norms; biases, where the adapter is folded in
    keep_zeros: bool = False  # weights of the blocks' matrices that are zero stay so: for models that were pruned
    template: str = ""  # chat template: a .jinja file; empty = the model's own, or a plain one where it has none
    context: int = 0  # inputs of a row; 0 = as many as the longest conversation needs and the model can read
    long: Literal["drop", "cut"] = "drop"  # what becomes of a conversation longer than the context
    epochs: float = 1.0  # passes over the conversations
    batch: int = 4096  # inputs per step, padding counted; rounded down to whole rows
    micro: int = 0  # rows of a micro-batch at most: the largest number that divides the step's is taken; 0 = chosen
    rate: float = 2e-4  # peak learning rate
    decay: float = 0.0  # weight decay of matrices
    optimizer: Optim = "adamw"  # direction of a step
    rest: Optim = "adamw"  # what moves the parameters that an optimizer of matrices leaves
    schedule: Schedule = "wsd"  # share of the rate over the run
    backward: Backward = "autograd"  # forward and backward pass
    loss: Loss = "cross_entropy"  # what is minimised
    roles: Annotated[dict[str, Artifact] | None, "model"] = None  # further models of the loss, such as {teacher: $big}
    view: View = "causal"  # what a conversation trains on
    batching: Batching = "whole"  # which conversation comes when
    heldout: float = 0.05  # share of the conversations kept for measuring, where the data hold none out
    measured: int = 400  # held-out conversations at most that are measured before and after
    precision: Literal["auto", "bfloat16", "float32", "float8"] = "auto"  # format of the working weights; masters are float32
    device: Literal["auto", "cpu", "cuda"] = "auto"  # what trains; auto: a GPU where torch has one
    deterministic: bool = False  # torch's deterministic algorithms: the same bits on a GPU too
    compile: bool | Literal["auto", "on", "off"] = "auto"  # on: one block, for all layers; auto: off, as the run's length is not known yet
    evaluate_every: int = 0  # steps between held-out measurements; 0 = about six in the run
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
    adapter_instead: ClassVar[str] = "lora"  # what is named where memory does not hold the training of all weights
    needs: ClassVar[tuple] = ("torch",)
    together: ClassVar[bool] = True  # all processes of a launch make it
    apart: ClassVar[tuple] = ("mesh", "planner", "parallel")  # these change the last digits alone, and a run may go on with others

    def __post_init__(self) -> None:
        if self.epochs <= 0 or self.rate <= 0 or self.decay < 0:
            raise ValueError(f"epochs and rate must be above 0 and decay not negative, got {self.epochs}, {self.rate} and {self.decay}")
        if self.batch < 1 or self.measured < 1 or not 0 <= self.heldout < 1:
            raise ValueError("batch and measured must be at least 1, heldout at least 0 and below 1")
        if self.context < 0:
            raise ValueError(f"context must not be negative, got {self.context}")
        _training.sound(self)
        _adapted.sound(self)

    def probe(self) -> dict:
        """The template's content, where it is a file."""
        from bloomery.data.chat.template import template_text

        return {"template": template_text(self.template)} if self.template else {}

    def mode(self) -> dict:
        """What decides the last digits; whether it pays to compile is known before the data are, from the knob alone."""
        from bloomery.train.compiled import PAYS_FROM

        return _training.mode(self, PAYS_FROM / 2)

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """From a rehearsal of one step without numbers and what its operations take on this machine, see docs/plan.md.

        BadInput for a model or data from outside that cannot be tuned or read, so that nothing is begun.
        """
        from bloomery.stages import _forecast, _tune_forecast
        from bloomery.train.trackers import demand

        demand(self.report_to)
        _teacher.bound(self)
        self.demand()
        model, data = inputs["model"].facts, inputs["data"].facts
        cfg = _forecast.shape_of(self.model, model)
        size = float(data.get("train_bytes") or data.get("bytes") or 1e6)
        load = _tune_forecast.load(self, cfg, size)
        found = _forecast.needs(load, machine)
        parameters = float(model.get("parameters") or (model["bytes"] / 4 if "bytes" in model and self.model is None else cfg.parameters()))
        disk = (4 * parameters if _adapted.whole(self) else found.checkpoint / 3) + size + 1e6
        facts = {"parameters": parameters, "tokens": load.steps * load.rows * load.context, "steps": load.steps, "config": asdict(cfg)}
        facts |= {"work_disk": (self.checkpoints_kept + 1) * (found.checkpoint + 4096) + found.shelved, **found.facts()}
        return Forecast(sum(found.seconds.values()), sum(found.memory.values()), disk, facts)

    def fitting(self, forecast: Forecast, inputs: dict[str, Forecast], machine: Machine, limit: float) -> list:
        """Settings that need at most `limit` bytes, as `_fit.fitting` finds them."""
        from bloomery.stages import _fit

        return _fit.fitting(self, forecast, inputs, machine, limit)

    def launch(self, forecast: Forecast) -> None:
        """BadInput where the processes that were started cannot share the run."""
        _mesh.launch(self, forecast)

    def demand(self) -> None:
        """Look at what comes from outside: the model's architecture, and the rows of a file that is read quickly."""
        model, data = (one if one is not None and one.card.get("stage") == "outside" else None for one in (self.model, self.data))
        if model is not None and model.path("config.json").is_file():
            from bloomery.nn.hf import config_of

            config_of(model.folder)
        if data is not None and float(data.facts.get("bytes") or 0) <= LOOKED_AT:
            from bloomery.train.conversations import read_parts

            read_parts(data.folder, self.heldout, Rng((0,)))

    # ---- run

    def run(self, job: Job) -> None:
        """Read, lay out, measure, train, write, measure again."""
        import torch

        from bloomery.infer.sound import load
        from bloomery.train import allocator, compiled, float8, heldout, loop
        from bloomery.train.deterministic import deterministic

        mode = self.mode()
        allocator.keep_memory()
        torch.set_num_threads(mode["threads"])
        model = load(self.model.folder)
        laid = self.told(model, job)
        feed = self.sound_feed(laid, model, job.rng.child("batches"))
        before = nats(model, laid, self.measured)
        model.net.to(_training.device_of(mode))
        roles = self.further(model, laid, job)
        mesh = _mesh.mesh(self, model.net.cfg, laid.context, job)
        mover, alone = self.mover(model, mesh, job)
        rows, total = self.rows(laid), max(1, round(self.epochs * laid.trained))
        held = self.feed(laid, "heldout", model, job.rng.child("heldout")) if laid.heldout else None
        scored = heldout.sample(held, 32 * laid.context) if held else []
        steps, sizes = self.steps(laid), _training.sizes(model, self.loss)
        if mode["precision"] == "float8":
            job.fact("float8", float8.convert(model.net))
        with job.graceful(), deterministic(self.deterministic):
            if mode["compile"]:
                job.fact("compile_seconds", compiled.compile_blocks(model.net, feed, self.loss, job.log, roles, mesh))
            outcome = loop.train(
                loop.Training(
                    net=model.net,
                    feed=feed,
                    loss=self.loss,
                    backward=self.backward,
                    optimizer=mover,
                    schedule=self.schedule,
                    rate=self.rate,
                    total=total,
                    batch=rows * laid.context,
                    rng=job.rng.child("train"),
                    evaluate=_training.answers(model, sizes, scored, mode["compile"], mesh) if scored else None,
                    evaluate_every=self.evaluate_every or max(1, steps // 6),
                    roles=roles,
                    sizes=None if sizes is None else sizes.to(_training.device_of(mode)),
                    **_training.kept(self, job, mode, _training.flops(alone, laid.context), mesh),
                )
            )
        if outcome.resumed:
            job.log.event("resumed")
        job.fact("compiled", mode["compile"])
        _teacher.told(roles, job)
        compiled.uncompile(model.net.eval())
        float8.restore(model.net)
        job.fact("answer_nats_trained", mean_nats(nats(model, laid, self.measured, mesh)) if laid.heldout else None)
        weights = {name: t.cpu() for name, t in mover.weights().items()}
        if not mesh.first:
            return
        self.write(alone, weights, outcome, laid, job)
        if laid.heldout:
            compare(before, nats(load(job.out), laid, self.measured), laid, job)

    def told(self, model: Model, job: Job) -> Conversations:
        """The conversations laid out, and said: their format, how many, and what was left out."""
        with job.log.progress("laying out conversations", unit="conversations") as bar:
            laid = self.laid(model, job.work / "laid", job.rng, bar.advance)
        for reason, count in laid.facts["conversations_dropped"].items():
            job.log.say(f"left out: {count} ({reason})")
        job.log.say(f"format {laid.facts['data_format']}: {len(laid.train)} conversations to train on, {len(laid.heldout)} held out")
        return laid

    def further(self, model: Model, laid: Conversations, job: Job) -> dict[str, Any]:
        """The models of the roles, where this run trains; BadInput for those that the loss lacks, does not know or cannot compare."""
        _teacher.bound(self)
        whole(self.loss, model.net)
        some = [ids for _, (ids, _) in laid.train[: _teacher.SAMPLED]]
        words = self.model.path("tokenizer.json")
        read = _teacher.further(self, model.net.cfg, laid.context, words, lambda: [model.tokenizer.decode(ids) for ids in some], job)
        return {name: one.to(_training.device_of(self.mode())) for name, one in read.items()}

    def mover(self, model: Model, mesh: Any, job: Job) -> tuple[Any, Any]:
        """What moves the trained parameters, all or the adapter's and those of `train_also`; and the model as it is in one process."""
        from bloomery.nn.empty import outline
        from bloomery.rewrite.adapters import attach

        if self.adapter is not None:
            names = attach(model.net, self.adapter, job.rng.child("adapter"), also=self.train_also)
            job.fact("adapted", names)
        alone = outline(model.net) if mesh.divides else model.net
        return _mesh.mover(model.net, self, mesh, job), alone

    def write(self, net: Any, weights: dict, outcome: Any, laid: Conversations, job: Job) -> None:
        """The model or its adapter, its tokenizer with the template, the held-out conversations, and what is known of the run."""
        import torch

        from bloomery.data.chat.read import write_chats
        from bloomery.infer.model import load
        from bloomery.nn import peft
        from bloomery.nn.empty import filled
        from bloomery.nn.saving import assemble, plain, save

        trained, held = sum(weight.numel() for weight in weights.values()), weights
        if self.adapter is None:
            save(assemble(net.cfg, {**weights}, torch.float32, job.out), job.out)
        elif _adapted.whole(self):
            folded = _adapted.merged(load(self.model.folder).net, self, weights, job.rng.child("adapter"))
            _adapted.written(folded, self.model.folder, job)
            held = plain(folded)
        else:
            peft.save(filled(net, weights), job.out, str(self.model.folder.resolve()))
        copy_words(self.model.folder, job.out, laid.template)
        for part in ("train", "heldout"):
            write_chats(job.out / f"{part}.parquet", [one for one, _ in getattr(laid, part)])
        _training.leave(job)
        facts = {
            "parameters": net.cfg.parameters(),
            "trained_parameters": trained,
            "adapter": None if self.adapter is None else repr(self.adapter),
            "tokens": outcome.clock.tokens,
            "steps": outcome.clock.step,
            "final_loss": outcome.loss,
            "training_seconds": outcome.seconds,
            "tokens_per_second": typical_speed(job.out / "curve.jsonl") or outcome.clock.tokens / outcome.seconds,
            "heldout_nats": outcome.clock.seen.get("heldout_nats"),
            "heldout_bits_per_byte": outcome.clock.seen.get("heldout_bpb"),
            "weights_sha256": hash_weights(held),
            "audit": outcome.audit,
            "spikes": outcome.spikes,
            **laid.facts,
        }
        for name, value in facts.items():
            job.fact(name, value)

    # ---- rows

    def laid(self, model: Model, folder: Path, rng: Rng, advance: Any = lambda _: None, template: str | None = None) -> Conversations:
        """Both parts of the data as the model's tokens."""
        from bloomery.train.conversations import lay_out

        cfg = model.net.cfg
        answering(cfg)
        if self.context > cfg.context:
            raise BadInput(f"context: the model reads {cfg.context} tokens at most, not {self.context}; say less")
        shape = (self.context, min(cfg.context, LONGEST), cfg.vocab)
        if self.batch < (self.context or 1):
            raise BadInput(f"batch: it must be at least one row of {self.context} inputs, got {self.batch}")
        return lay_out(
            self.data.folder,
            folder,
            model.folder,
            self.template if template is None else template,
            shape,
            self.long,
            self.heldout,
            rng.child("split"),
            advance,
        )

    def rows(self, laid: Conversations) -> int:
        """Rows of a step."""
        return max(1, self.batch // laid.context)

    def steps(self, laid: Conversations) -> int:
        """Steps of the run, about; BadInput where an adapter would have one alone, in which half of it gets no gradient."""
        inputs = self.rows(laid) * laid.context
        found = int(-(-self.epochs * laid.facts["inputs_per_epoch"] // inputs))
        if self.adapter is not None and found < 2:
            less = max(laid.context, int(self.epochs * laid.facts["inputs_per_epoch"]) // 8)
            raise BadInput(f"the conversations fill one step of {inputs} inputs, too few for an adapter; say `batch: {less}` or so")
        return found

    def clock(self, laid: Conversations) -> Clock:
        """Before step 1."""
        return Clock(0, 0, self.rows(laid) * laid.context, float(max(1, round(self.epochs * laid.trained))))

    def feed(self, laid: Conversations, part: str, model: Model, rng: Rng) -> Any:
        """Rows of a part; the held-out ones are laid alike whatever the training does, so that figures compare."""
        from bloomery.data.tokenizer import spare_ids
        from bloomery.methods.batching.whole import Whole
        from bloomery.methods.view.causal import Causal

        pad, bos, eos = (model.ids.get(f"{name}_token", -1) for name in ("pad", "bos", "eos"))
        vocab = Vocab(model.net.cfg.vocab, pad, bos, eos, spare_ids(model.tokenizer))
        how = (self.batching, self.view) if part == "train" else (Whole(), Causal())
        return laid.feed(part, *how, self.rows(laid), self.micro, rng, vocab)

    def sound_feed(self, laid: Conversations, model: Model, rng: Rng) -> Any:
        """The training rows, after a look at the first ones; BadInput where tokens would be trained on wrongly."""
        from bloomery.train import preview

        begin = model.ids.get("bos_token")
        doubled = begin if begin not in laid.template.stops else None  # one token for both stands between turns
        wrong = preview.faults(self.feed(laid, "train", model, rng), self.clock(laid), doubled, None)
        if wrong:
            raise BadInput("; ".join(wrong))
        laid.demand_sound(model.tokenizer)
        return self.feed(laid, "train", model, rng)

    # ---- preview

    def preview(self, rng: Rng, most: int) -> Iterator[list[tuple[str, int, float]]]:
        """The first rows of step 1 as (text of the token, id, weight); BadInput for what must never be trained on silently."""
        import tempfile

        from bloomery.infer.sound import load
        from bloomery.train import preview

        model = load(self.model.folder)
        with tempfile.TemporaryDirectory() as scratch:
            laid = self.laid(model, Path(scratch), rng)
            feed = self.sound_feed(laid, model, rng.child("batches"))
            for row in preview.rows(feed, self.clock(laid), most):
                tokens = [(token, weight) for piece in row for token, weight in zip(piece.ids, piece.weights, strict=True)]
                yield [(model.tokenizer.decode([token], skip_special_tokens=False), token, weight) for token, weight in tokens]

    # ---- check

    def check(self, made: Path, job: Job) -> None:
        """Weights read back are the trained ones, and score as they did; the trained tokens spell the answers; the audit holds."""
        from bloomery.infer.model import load

        facts = job.facts or json.loads((made / "card.json").read_text(encoding="utf-8"))["facts"]
        model = load(made)  # its own template laid the conversations out, whatever has become of a file that was named
        state = dict(model.net.named_parameters())
        if _adapted.whole(self):
            from bloomery.nn.saving import plain

            state = plain(model.net)
        else:
            state = {name: p for name, p in state.items() if p.requires_grad}
        job.check("weights read back that differ from the trained ones", int(hash_weights(state) != facts["weights_sha256"]), 0)
        check_audit(facts["audit"], job)
        _adapted.check_zeros(self, self.model.folder, made, job)
        laid = self.laid(model, job.work / "checked", job.rng, template="")
        for part in ("train", "heldout"):
            wrong, seen = laid.misspelt(model.tokenizer, part)
            job.check(f"{part} answers that their trained tokens do not spell", wrong, 0, note=f"of {seen}")
            job.check(f"{part} conversations whose end is not trained", laid.endless(part), 0, note=f"of {len(getattr(laid, part))}")
        if laid.heldout:
            found, trained = mean_nats(nats(model, laid, self.measured)), facts["answer_nats_trained"]
            limit = DRIFT[self.mode()["precision"]]
            note = f"{found:.4f} against {trained:.4f} in training's own precision"
            job.check("held-out nats per answer token, read back against trained", abs(found / trained - 1), limit, note=note)
