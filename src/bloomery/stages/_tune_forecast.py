"""What is rehearsed of a tuning run: its model with what is trained of it, and how many steps of which shape."""

from __future__ import annotations

import functools
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.nn.config import Config
from bloomery.seams import Rng
from bloomery.stages import _mesh
from bloomery.stages._load import Load
from bloomery.stages._training import device_of

CONVERSATION_BYTES = 36  # in memory per token of a conversation: a place in a Python list, and the number
BYTES_PER_TOKEN = 3.0  # of conversations, where they have not been laid out yet
LONGEST = 2048  # a row's inputs at most, where no context is given


def load(stage: Any, cfg: Config, size: float) -> Load:
    """Of a run on conversations of about `size` bytes; BadInput for a model that learns no answers."""
    from bloomery.train.batches import micro_rows

    answering(cfg)

    mode, context = stage.mode(), stage.context or min(cfg.context, LONGEST)
    rows, tokens = max(1, stage.batch // context), size / BYTES_PER_TOKEN
    steps = max(1, -(-int(stage.epochs * tokens) // (rows * context)))
    evaluations = -(-steps // (stage.evaluate_every or max(1, steps // 6)))
    return Load(
        stage="tune",
        make=functools.partial(rehearsed, stage, cfg, mode["precision"]),
        loss=stage.loss,
        backward=stage.backward,
        saved=None,
        rows=rows,
        micro=micro_rows(rows, stage.micro, context),
        context=context,
        steps=steps,
        scored=int(min(32 * context * evaluations + 4 * stage.measured * context, 7 * tokens)),
        text=int(CONVERSATION_BYTES * tokens + 2 * size),
        reread=(4 if stage.adapter is None else 8) * cfg.parameters(),
        device=device_of(mode),
        compiled=mode["compile"],
        precision=mode["precision"],
        threads=mode["threads"],
        save_seconds=stage.checkpoint_seconds,
        save_steps=stage.checkpoint_steps,
        **_mesh.laid(stage, cfg, context),
        shelved=_mesh.shelved(stage),
        resident=_mesh.resident(stage),
    )


def answering(cfg: Config) -> None:
    """BadInput for a model that would see what it is to predict, or that reads two texts."""
    if not cfg.predicts_next:
        why = "reads two texts" if cfg.encoder_layers else "sees the tokens after a token, so that every answer would be given away"
        raise BadInput(f"model: a {cfg.architecture} model {why}; tune a causal one")


def whole(loss: Any, net: Any) -> None:
    """BadInput for a loss that trains parts of its own beside the model, for which tuning has no place."""
    if hasattr(loss, "parts") and loss.parts(net, Rng((0, "parts"))):
        raise BadInput(f"loss: {type(loss).__name__} trains parts of its own beside the model, which pretrain does and tune does not")


def rehearsed(stage: Any, cfg: Config, precision: str) -> tuple[Any, dict[str, Any], Any]:
    """The model, those of its loss and what moves it, as the run makes them, without their numbers."""
    from bloomery.nn.model import Transformer
    from bloomery.rewrite.adapters import attach
    from bloomery.stages._teacher import outlines
    from bloomery.train import precision as formats
    from bloomery.train.optimizer import Optimizer

    net, rng = Transformer(cfg), Rng((0, "rehearsal"))
    whole(stage.loss, net)
    if stage.adapter is not None:
        attach(net, stage.adapter, rng, also=stage.train_also)
    mover = Optimizer(net, stage.optimizer, rng, stage.decay, formats.dtype(precision), stage.rest)
    if stage.keep_zeros:
        mover.keep_zeros()
    return net, outlines(stage, cfg), mover
