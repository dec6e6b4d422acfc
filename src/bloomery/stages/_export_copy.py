"""What every format of `export` has in common: the texts it is tried on, and the figures of the copy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bloomery.core.job import Job
    from bloomery.core.store import Artifact
    from bloomery.data.samples import Text
    from bloomery.infer.parity import Parity
    from bloomery.nn.config import Config
    from bloomery.nn.model import Transformer

COMPARED, LONGEST = 4096, 2048  # tokens of the standard library that a copy is compared on, and tokens of a sequence at most
SAMPLES = (
    "", " ", "def read(path):\n    return path.read_text()\n", "\tfor i in range(10):\r\n\t\tprint(i)  \n\n\n", "naïve café, Straße, ½ ≤ ∞",
    "日本語のテキスト 👩‍👩‍👧", "e\u0301\u200b\ufeff", "x" * 200, "don't  stop I'LL 3.14159e-10 0xFF", "\x00\x01\x7f",
    "x = '<|eos|>' + '<|bos|>'",
)  # fmt: skip


def real_text() -> str:
    """Text that every machine has: a module of the standard library."""
    import heapq
    import inspect

    return inspect.getsource(heapq)[:20000]


def sequences(model: Artifact, data: Artifact | None, tokenizer: Any, cfg: Config, seed: int) -> Text:
    """Held-out tokens of `data`, or without it those of a module of the standard library; BadInput where there are none."""
    from bloomery.core.errors import BadInput
    from bloomery.data.samples import Text, to_compare

    length, vocab = min(cfg.context, LONGEST), cfg.vocab
    if data is None:
        ids = tokenizer.encode(real_text()).ids[:COMPARED]
        rows = [row for row in (ids[i : i + length] for i in range(0, len(ids), length)) if len(row) > 1]
        return Text(rows, [[1.0] * len(row) for row in rows], "the source of Python's heapq, no held-out text")
    found = to_compare(data, length, model.folder, seed)
    if max(max(one) for one in found.ids) >= vocab:
        raise BadInput(f"{data.name} holds token ids past the model's vocabulary of {vocab}; give data of its tokenizer")
    return found


def logits(net: Transformer) -> Callable[[Sequence[int]], Any]:
    """One sequence in, (T, V) out, in the type of the net."""
    import torch

    def score(ids: Sequence[int]) -> Any:
        with torch.inference_mode():
            return net.logits(net(torch.as_tensor(ids, dtype=torch.int64)[None]))[0]

    return score


def decode_speed(net: Transformer, tokenizer: Any, ids: Sequence[int]) -> float:
    """Greedy tokens per second of our decoder, for one prompt."""
    from bloomery.infer.decoder import Decoder
    from bloomery.infer.speed import speeds

    return speeds(Decoder(net, tokenizer), ids, batch=1)["decode"]


def tell_copy(
    job: Job, source: Artifact, weights: Path, parameters: int, found: Parity, *, label: str, engine: str, text: str, note: str = "",
    speed: float | None = None, source_speed: float | None = None,
) -> None:  # fmt: skip
    """The fact `copy`: how large the copy is, how near to its source, and how fast. `weights` is a file, or a folder of safetensors."""
    size = sum(file.stat().st_size for file in (weights.glob("*.safetensors") if weights.is_dir() else [weights]))
    job.fact(
        "copy",
        {
            "label": label, "of": source.name, "bytes": size, "source_bytes": source.path("model.safetensors").stat().st_size,
            "bits_per_weight": 8 * size / parameters, "nats": found.nats, "source_nats": found.reference_nats, "kl": found.kl,
            "worst_kl": found.worst, "agreement": found.agreement, "tokens": found.tokens, "text": text,
            "decode_tokens_per_second": speed, "source_decode_tokens_per_second": source_speed, "engine": engine, "note": note,
        },
    )  # fmt: skip
