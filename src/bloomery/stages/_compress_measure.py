"""The figures of a compressed copy against its source, with one block of either in memory at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bloomery.core.job import Job
    from bloomery.data.samples import Text
    from bloomery.infer.parity import Logits, Parity
    from bloomery.nn.config import Config
    from bloomery.stages.compress import Compress


def compared(stage: Compress, made: Path, small: dict[str, Any], cfg: Config, facts: dict[str, Any], job: Job) -> tuple[Parity, dict]:
    """The copy against its source on held-out text, and the fact `copy`. Of a model with an encoder, the second half of each sequence."""
    from bloomery.infer.model import read_tokenizer
    from bloomery.infer.parity import parity

    text = stage.compared(cfg, job)
    source, copy = scored(stage.model.folder, text), scored(made, text)
    text = targets(text) if cfg.encoder_layers else text
    found = parity(source, copy, text.ids, text.counted)
    sizes = weights_bytes(made), weights_bytes(stage.model.folder)
    each = size_of(read_tokenizer(made), text)
    bits = {"": found.nats, "source_": found.reference_nats} if cfg.causal and each else {}
    pace = facts["decode_tokens_per_second"]
    told = {
        "label": label(stage.method, small), "of": stage.model.name, "bytes": sizes[0], "source_bytes": sizes[1],
        "bits_per_weight": 8 * sizes[0] / cfg.parameters(),
        "nats": found.nats if cfg.causal else None, "source_nats": found.reference_nats if cfg.causal else None,
        **{f"{whose}bits_per_byte": nats / (each * math.log(2)) for whose, nats in bits.items()},
        "kl": found.kl, "worst_kl": found.worst, "agreement": found.agreement, "tokens": found.tokens, "text": text.what,
        "decode_tokens_per_second": pace.get("copy"), "source_decode_tokens_per_second": pace.get("source"),
        "engine": "bloomery, fp32", "note": "no speed-up here: weights are turned dense when loaded",
    }  # fmt: skip
    return found, told


def scored(folder: Path, text: Text) -> Logits:
    """The logits of a model in a folder for these very sequences, from hidden states that are computed block by block beforehand."""
    import torch

    from bloomery.infer.model import load
    from bloomery.nn.parts import Parts, Source
    from bloomery.rewrite.passing import hidden

    if Source(folder).cfg.modules:
        return load(folder).logits
    parts = Parts(folder)
    held = dict(zip(map(tuple, text.ids), hidden(parts, text.ids), strict=True))
    if parts.net.encoder is not None:
        held = {whole[len(whole) // 2 :]: states for whole, states in held.items()}
    net = parts.net

    def logits(ids: Sequence[int]) -> torch.Tensor:
        with torch.inference_mode():
            return net.logits(held[tuple(ids)])

    return logits


def targets(text: Text) -> Text:
    """What the decoder of a model with an encoder reads; of sequences with the same second half, the last alone."""
    from bloomery.data.samples import Text

    halves = {tuple(ids[len(ids) // 2 :]): counted[len(ids) // 2 :] for ids, counted in zip(text.ids, text.counted, strict=True)}
    kept = {ids: counted for ids, counted in halves.items() if len(ids) > 1}
    return Text([list(ids) for ids in kept], list(kept.values()), text.what)


def size_of(tokenizer: Any, text: Text) -> float:
    """UTF-8 bytes of a predicted token that counts, on average."""
    from bloomery.data.token_bytes import pieces

    sizes = [len(piece) for piece in pieces(tokenizer)]
    counted = [i for ids, weights in zip(text.ids, text.counted, strict=True) for i, w in zip(ids[1:], weights[1:], strict=True) if w]
    return sum(sizes[i] if i < len(sizes) else 0 for i in counted) / max(len(counted), 1)


def weights_bytes(folder: Path) -> int:
    """Bytes of a model's weights, of all shards; other files of weights beside them are not counted."""
    from bloomery.nn.hf import weight_files

    return sum(file.stat().st_size for file in weight_files(folder))


def label(method: Any, small: dict[str, Any]) -> str:
    """What the copy is called in tables: `GPTQ 4-bit, groups of 32`, `BitStack 2.41-bit, 2 to 3 blocks` or `Wanda 2:4`."""
    name, codes = type(method).__name__, [one for one in small.values() if hasattr(one, "codes_OI")]
    pruned = [one for one in small.values() if hasattr(one, "zeros")]
    stacks = [one for one in small.values() if hasattr(one, "blocks")]
    said = []
    if pruned:
        patterns = {one.pattern for one in pruned}
        zeros = sum(one.zeros * one.mask_OI.numel() for one in pruned) / sum(one.mask_OI.numel() for one in pruned)
        said.append(patterns.pop() if len(patterns) == 1 and "" not in patterns else f"{zeros:.0%} zeros")
    if stacks:
        bits = 8 * sum(one.bytes for one in small.values()) / sum(one.shape[0] * one.shape[1] for one in small.values())
        blocks = sorted({one.blocks for one in stacks})
        many = f"{blocks[0]} to {blocks[-1]}" if len(blocks) > 1 else f"{blocks[0]}"
        said.append(f"{bits:.2f}-bit, {many} block{'' if many == '1' else 's'}")
    if codes:
        bits, groups = widths(codes)
        said.append(f"{bits}-bit{' float' if codes[0].levels else ''}, {groups}")
        said += ["zeros kept"] if any(one.masked for one in codes) else []
        said += ["asymmetric"] if any(one.zero_OG is not None or one.shift_OG is not None for one in codes) else []
        said += [f"rank {codes[0].left_OK.shape[1]} added"] if codes[0].left_OK is not None else []
        said += [f"{codes[0].inputs} inputs"] if codes[0].inputs else []
    return f"{name} {', '.join(said)}"


def widths(codes: Sequence[Any]) -> tuple[str, str]:
    """The bits of all codes and what shares a scale, in words: ("3/4", "groups of 32")."""
    bits, groups = ("/".join(map(str, sorted(found))) for found in ({one.bits for one in codes}, {one.group for one in codes}))
    return bits, "whole rows" if all(one.group == one.shape[1] for one in codes) else f"groups of {groups}"


def walk(stage: Compress, made: Path, small: dict[str, Any], whole: str, job: Job) -> None:
    """Where linears are stacks of blocks: the copy loaded with one block of each, with two, and so on, and back to all of them."""
    from bloomery.infer.model import load
    from bloomery.infer.parity import parity
    from bloomery.nn.saving import digest
    from bloomery.nn.stacked import Stacked

    stacks = [one for one in small.values() if isinstance(one, Stacked)]
    if not stacks:
        return
    source = load(stage.model.folder)
    text = stage.compared(source.net.cfg, job)
    codes = sum(one.bytes for one in small.values() if not isinstance(one, Stacked))
    weights = sum(one.shape[0] * one.shape[1] for one in small.values())
    rows = []
    for level in range(1, max(one.blocks for one in stacks) + 1):
        size = codes + sum(one.first(level).bytes for one in stacks)
        copy = load(made, budget=size)
        found = parity(source.logits, copy.logits, text.ids, text.counted)
        rows.append({"blocks": level, "bytes": size, "bits": 8 * size / weights, "nats": found.nats, "kl": found.kl})
    job.fact("walk", rows)
    job.check("weights loaded to the whole budget that differ", int(digest(copy.net) != whole), 0, note=f"{len(rows)} budgets loaded")
