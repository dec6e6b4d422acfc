"""Chain: every copy of a model against what it was made from, hop by hop, from the pretrained weights to the server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from bloomery.core.errors import BadInput
from bloomery.core.files import write_json
from bloomery.core.job import Forecast
from bloomery.core.machine import threads

if TYPE_CHECKING:
    from bloomery.core.job import Job
    from bloomery.core.machine import Machine
    from bloomery.core.store import Artifact, Store
    from bloomery.infer.hops import Compared, Material
    from bloomery.infer.players import Player

FILE = "chain.json"
SERVER = "server"
NATIVE = ("model.json", "adapter_config.json")  # what a folder of our own holds
TEXTS = (
    " ", "def read(path):\n    return path.read_text()\n", "\tfor i in range(10):\r\n\t\tprint(i)  \n\n\n", "naïve café, Straße, ½ ≤ ∞",
    "日本語のテキスト 👩‍👩‍👧", "x" * 200, "don't  stop I'LL 3.14159e-10 0xFF", "x = '<|eos|>' + '<|bos|>'",
)  # fmt: skip
CHATS = (
    (("user", "What does heapq.heappush do?"),),
    (("user", "Add two numbers."), ("assistant", "def add(a, b):\n    return a + b"), ("user", "  Now three,\nplease ½ 日本")),
)
AGAIN = 0.1  # share by which a KL may differ when it is measured again, beside 1e-6 nats


@dataclass(frozen=True)
class Chain:
    """Compare every copy of a model with what it was made from: token ids, logits, greedy text."""

    of: tuple[Annotated[Artifact, "*"], ...]  # the copies in their order, the pretrained model first
    data: Annotated[Artifact | None, "*"] = None  # tokens or chats whose held-out part is compared on; none: the standard library's text
    server: bool = True  # ask the last copy that is served once more, over HTTP
    count: int = 16  # sequences compared
    length: int = 256  # tokens of a sequence at most
    makes: ClassVar[str] = "chain"
    needs: ClassVar[tuple] = ("torch",)

    def __post_init__(self) -> None:
        if self.count < 1 or self.length < 2:
            raise ValueError(f"count must be at least 1 and length at least 2, got {self.count} and {self.length}")

    def mode(self) -> dict:
        """Logits are computed in fp32; the number of threads may change their last digit, and whether llama.cpp is there a whole hop."""
        from bloomery.stages.export import installed_version

        return {"precision": "float32", "threads": threads(), "llama-cpp-python": installed_version("llama-cpp-python")}

    def forecast(self, inputs: dict[str, Forecast], machine: Machine) -> Forecast:
        """Two forward passes over the sequences per hop, some tokens one by one, and the imports; rates as measured on two cores."""
        parameters = float(inputs["of"].facts.get("parameters") or 5e6)
        hops = max(1, len(self.of) - 1 + self.server)
        flops = 2 * hops * self.count * self.length * 2 * parameters
        seconds = 6 + 2 * hops + flops / (0.2 * machine.matmul_flops.get("float32", 1e11))
        return Forecast(seconds=seconds, memory=8e8 + 12 * parameters, disk=2e4)

    def run(self, job: Job) -> None:
        """Measure every hop and write the table."""
        found = self.measured(job.seed, job.store)
        write_json(job.out / FILE, found)
        job.fact("hops", found["hops"])
        job.fact("text", found["text"])

    def check(self, made: Path, job: Job) -> None:
        """Each hop's figures against its limits: as just measured by `run`, and measured again where the artifact is checked later."""
        told = json.loads((made / FILE).read_text(encoding="utf-8"))
        if "hops" in job.facts:
            demand(told["hops"], job)
            return
        again = self.measured(job.seed, job.store)
        demand(again["hops"], job)
        job.check(f"hops that differ from those in {FILE}", differing(told["hops"], again["hops"]), 0)

    def measured(self, seed: int = 0, store: Store | None = None) -> dict[str, Any]:
        """{"hops": a row for each, "text": what was compared on}; at most two players are open at a time."""
        from bloomery.infer.hops import compare

        hops = hops_of(self.of, store, self.server)
        given, text = material(self.of, self.data, self.count, self.length, seed)
        rows = []
        with Table() as table:
            for hop in hops:
                source, copy = table.pair(hop)
                try:
                    rows.append(row_of(hop, compare(source, copy, given), called(self.of)))
                except ValueError as wrong:
                    raise BadInput(f"{source.name} to {copy.name} cannot be compared on {text}: {wrong}; give other data") from None
        return {"hops": rows, "text": text}


# ---- hops ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hop:
    """A copy and what it was made from; `copy` is None for the server, which serves `source`."""

    source: Artifact
    copy: Artifact | None
    kind: str
    what: str
    limits: dict[str, float]
    note: str = ""


def hops_of(of: Sequence[Artifact], store: Store | None, server: bool) -> list[Hop]:
    """Every copy with its source: the nearest in its lineage that is listed before it, else the previous one."""
    strange = next((one.name for one in of if not is_model(one)), None)
    if strange:
        raise BadInput(f"of: {strange} holds no model; list models, adapters and exports")
    if len(of) + server < 2:
        raise BadInput("of: one copy alone cannot be compared; list two or more in their order")
    hops = []
    for i, copy in enumerate(of[1:], 1):
        way = way_of(copy, of[:i], store)
        source, kind = way[-1] if way else of[i - 1], kind_of(copy)
        kind = "copy" if kind == "pretrain" and not way else kind  # trained from nothing, it is no further training of a stranger
        limits, note = limits_of(kind, copy)
        if between := way[:-1]:
            limits = added([limits, *(limits_of(kind_of(one), one)[0] for one in between)])
            note = "; ".join(filter(None, (f"by way of {', '.join(map(named, between))}, which is not listed", note)))
        hops.append(Hop(source, copy, kind, what(copy, kind), limits, note))
    if server:
        served = next((one for one in reversed(of) if any(one.path(name).is_file() for name in NATIVE)), None)
        if served is None:
            raise BadInput("server: none of the copies is a model of our own that can be served; say `server: false`")
        hops.append(Hop(served, None, "serve", "served over HTTP", *limits_of("serve", served)))
    return hops


def is_model(one: Artifact) -> bool:
    """Whether an artifact's folder holds a model in any form."""
    return any(one.path(name).is_file() for name in (*NATIVE, "config.json")) or any(one.folder.glob("*.gguf"))


def way_of(copy: Artifact, before: Sequence[Artifact], store: Store | None) -> list[Artifact]:
    """What lies between a copy and its nearest ancestor among `before`, and that one last: the latest of them where an artifact has
    several. Empty where there is none."""
    listed, seen, level = {one.address: one for one in before}, set(), [[copy]]
    while level:
        for way in level:
            if found := [one for address, one in listed.items() if address in way[-1].parents()]:
                return [*way[1:], found[-1]]
        further: dict[str, list[Artifact]] = {}
        for way in level:
            for address in way[-1].parents():
                if store and address not in seen and address not in way[-1].card.get("folders", {}):
                    seen.add(address)
                    further[address] = [*way, store.get(address)]
        level = list(further.values())
    return []


def named(one: Artifact) -> str:
    """The step that made an artifact, or its own name."""
    return str(one.card.get("step") or one.name)


def kind_of(copy: Artifact) -> str:
    """What made a copy, by its card, and by its files where it comes from outside."""
    stage = str(copy.card.get("stage", ""))
    if any(copy.folder.glob("*.gguf")):
        return "export gguf"
    if stage == "export":
        config = copy.path("config.json")
        told = json.loads(config.read_text(encoding="utf-8")).get("quantization_config") if config.is_file() else None
        return f"export {told['quant_method']}" if told else "export huggingface"
    return stage if stage in ("pretrain", "tune", "merge", "compress", "shrink") else "copy"


def what(copy: Artifact, kind: str) -> str:
    """A few words on a copy: its label where it has one."""
    words = {
        "tune": "trained further", "pretrain": "trained further", "merge": "adapter merged", "export huggingface": "Hugging Face folder",
        "export gguf": "GGUF file",
    }  # fmt: skip
    return str((copy.facts.get("copy") or {}).get("label") or words.get(kind) or kind)


def called(of: Sequence[Artifact]) -> dict[str, str]:
    """Address -> the step's name, with the beginning of the address where two steps are called the same."""
    steps = [named(one) for one in of]
    return {one.address: step if steps.count(step) == 1 else f"{step} ({one.address[:6]})" for one, step in zip(of, steps, strict=True)}


# ---- limits --------------------------------------------------------------------------------------------------------------

# Figures in brackets were measured on a Llama of 3.4 million parameters, 4080 held-out tokens. "largest" is the difference of a logit, for
# which limits are wide: it is that of the worst of all tokens, and grows with the logits.
SAME = {"kl": 1e-6, "agreement": 0.999}  # the same numbers summed in another order; of two equally likely tokens either may win
READ = {**SAME, "largest": 1e-3}  # and read back by another program
ROUNDED = {"kl": 1e-3, "agreement": 0.99}  # weights in bfloat16, or a copy of which nothing is known
HALF = {"kl": 1e-4, "agreement": 0.99, "largest": 0.1}  # weights in fp16, and what enters their products too (1.6e-7, 0.9995)
CODES = {"kl": 1e-3, "agreement": 0.98, "largest": 1.0}  # codes as they were; llama.cpp rounds what enters to 8 bits (8e-5, 0.994)
NOISE = 25.0  # nats x 4^bits: each bit less doubles the error of a weight; 0.1 nats at 4 bits (0.0042 by rounding in groups of 32)
PRUNED = 2.0  # bits as which a weight counts that may have become zero (0.11 nats at 2:4 by magnitude)


def limits_of(kind: str, copy: Artifact) -> tuple[dict[str, float], str]:
    """What must hold on a hop of this kind, and a note where figures are not what they seem.

    On every hop token ids are equal, and a copy that writes other text does so where its logits leave the choice open.
    """
    always = {"token_ids_differ": 0, "greedy_odd": 0}
    knobs, facts = copy.card.get("knobs") or {}, copy.facts
    if kind in ("tune", "pretrain"):
        return always, "training is meant to change the model: no limit but on token ids"
    if kind == "shrink":
        return always, "chosen by a search for its size and its nats: no limit but on token ids"
    if kind == "merge":
        return always | SAME, ""
    if kind == "serve":
        return always | READ, ""
    if kind == "compress":
        return always | {"kl": noise(copy)}, ""
    if kind.startswith("export ") and kind != "export gguf":
        return always | {"bfloat16": ROUNDED, "float16": HALF}.get(str(knobs.get("dtype")), READ), ""
    if kind == "export gguf" and facts.get("type") in ("Q8_0", "Q4_0", "Q4_K"):
        if str(facts.get("codes", "")).startswith("lossless"):
            return always | CODES, "codes kept; llama.cpp rounds activations to 8 bits"
        return always | {"kl": CODES["kl"] + NOISE * 4.0 ** -int(facts["type"][1])}, str(facts.get("codes", ""))
    if kind == "export gguf":
        return always | (READ if facts.get("type") == "F32" else HALF), ""
    return always | ROUNDED, ""


def added(limits: Sequence[dict[str, float]]) -> dict[str, float]:
    """What must hold over several hops together: of what all of them limit, the sum of what each may differ by."""
    shared = [name for name in limits[0] if all(name in one for one in limits)]
    room = {name: sum(1 - one[name] if name == "agreement" else one[name] for one in limits) for name in shared}
    return {name: max(0.0, 1 - value) if name == "agreement" else value for name, value in room.items()}


def noise(copy: Artifact) -> float:
    """The KL that the bits of a compressed copy leave room for: the mean over its layers, 4 bits where it does not tell."""
    file = copy.path("quantization.json")
    layers = json.loads(file.read_text(encoding="utf-8")).get("linears", {}) if file.is_file() else {}
    bits = [told_bits(one) for one in layers.values()] or [4.0]
    return float(f"{NOISE * sum(4.0**-one for one in bits) / len(bits):.3g}")


def told_bits(about: Mapping[str, Any]) -> float:
    """Bits of a weight that stand for its precision, by quantization.json: those of codes or of a grid of the inputs, the fewer; a block
    of a stack is about a bit, however many numbers its factors have."""
    if about.get("form") == "sparse":
        return PRUNED
    inputs = about.get("inputs")
    least = float(about.get("blocks", about.get("bits", 4)))
    return min(least, float(inputs["bits"])) if isinstance(inputs, Mapping) else least


def demand(rows: Sequence[Mapping[str, Any]], job: Job) -> None:
    """Every limit of every hop as a check."""
    for row in rows:
        for name, value, limit, note in held(row):
            job.check(f"{row['from']} to {row['to']}: {name}", value, limit, note=note)


def held(row: Mapping[str, Any]) -> Iterator[tuple[str, float, float, str]]:
    """The limits of a hop as (name, value, limit, note), all of them "at most"."""
    limits, of = row["limits"], f"of {row['tokens']}"
    yield "texts with other token ids", row["token_ids_differ"], limits["token_ids_differ"], row["example"] or f"of {row['texts']}"
    yield "prompts continued otherwise than the logits tell", row["greedy_odd"], limits["greedy_odd"], f"of {row['greedy_total']}"
    if "kl" in limits:
        yield "KL divergence, nats per token", row["kl"], limits["kl"], of
    if "agreement" in limits:
        yield "share of tokens with another likeliest one", 1 - row["agreement"], round(1 - limits["agreement"], 9), of
    if "largest" in limits:
        yield f"largest difference of a {'log-probability' if row['kind'] == 'serve' else 'logit'}", row["largest"], limits["largest"], of


def row_of(hop: Hop, found: Compared, names: Mapping[str, str]) -> dict[str, Any]:
    """A hop as chain.json, the card and the report have it."""
    far = found.parity
    row = {
        "from": names[hop.source.address], "to": names[hop.copy.address] if hop.copy else SERVER, "kind": hop.kind, "what": hop.what,
        "token_ids_differ": found.token_ids_differ, "texts": found.texts, "example": found.example,
        "kl": far.kl, "worst_kl": far.worst, "agreement": far.agreement, "largest": far.largest, "tokens": far.tokens,
        "nats": far.nats, "source_nats": far.reference_nats,
        "greedy_equal": found.greedy_equal, "greedy_total": found.greedy_total, "greedy_odd": found.greedy_odd,
        "note": "; ".join(one for one in (hop.note, *found.notes) if one), "limits": hop.limits,
    }  # fmt: skip
    return {**row, "ok": all(value <= limit for _, value, limit, _ in held(row))}


def differing(told: Sequence[Mapping[str, Any]], again: Sequence[Mapping[str, Any]]) -> int:
    """Hops that are not the same, or whose KL is another by more than rounding."""
    if len(told) != len(again):
        return max(len(told), len(again))
    same = [
        all(a.get(key) == b[key] for key in ("from", "to", "kind", "tokens", "token_ids_differ"))
        and abs(a["kl"] - b["kl"]) <= 1e-6 + AGAIN * abs(b["kl"])
        for a, b in zip(told, again, strict=True)
    ]
    return same.count(False)


# ---- players and text ----------------------------------------------------------------------------------------------------


class Table:
    """The players at the table: those of one hop, kept where the next one needs them again."""

    def __init__(self) -> None:
        self.open: dict[str, Player] = {}
        self.stack = ExitStack()

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *wrong: Any) -> None:
        self.stack.close()
        self.keep()

    def keep(self, *addresses: str) -> None:
        """Close all others."""
        for address in [one for one in self.open if one not in addresses]:
            self.open.pop(address).close()

    def player(self, one: Artifact, source: Player | None = None) -> Player:
        from bloomery.infer.players import open_player

        if one.address not in self.open:
            self.open[one.address] = open_player(one.folder, one.name, source)
        return self.open[one.address]

    def pair(self, hop: Hop) -> tuple[Player, Player]:
        """Both players of a hop."""
        if hop.copy is not None:
            self.keep(hop.source.address, hop.copy.address)
            source = self.player(hop.source)
            return source, self.player(hop.copy, source)
        from bloomery.infer.players import Server
        from bloomery.serve.running import running

        self.keep(hop.source.address)
        url = self.stack.enter_context(running(hop.source.folder))
        return self.player(hop.source), Server(url, hop.source.name)


def material(of: Sequence[Artifact], data: Artifact | None, count: int, length: int, seed: int) -> tuple[Material, str]:
    """Texts, conversations and sequences to compare on, and where they come from."""
    from bloomery.infer.hops import Material
    from bloomery.infer.model import read_tokenizer

    folder = words_of(of, data)
    tokenizer = read_tokenizer(folder)
    if data is None:
        from bloomery.stages._export_copy import real_text

        ids, text = tokenizer.encode(real_text()).ids, "text of the standard library"
        sequences = [ids[i : i + length] for i in range(0, len(ids) - 1, length)][:count]
    else:
        from bloomery.data.samples import samples

        text = f"held-out {data.kind} of {data.card.get('step') or data.name}"
        sequences = [[int(i) for i in one] for one in samples(data.folder, "heldout", count, length, folder, seed)]
    if not sequences:
        raise BadInput(f"{data.name if data else text} holds no held-out sequence of two tokens; give data with held-out documents")
    plain = [tokenizer.decode(one[: 1 + len(one) // 2], skip_special_tokens=True) for one in sequences]
    chats = [[{"role": role, "content": said} for role, said in one] for one in CHATS] + conversations(data, count)
    return Material([*TEXTS, *plain], chats, sequences), text


def words_of(of: Sequence[Artifact], data: Artifact | None) -> Path:
    """The folder whose tokenizer lays the text out: the last copy with a chat template, else the first with a tokenizer."""
    from bloomery.data.chat.template import ChatTemplate

    folders = [one.folder for one in of if one.path("tokenizer.json").is_file()]
    if not folders and data is not None and data.path("tokenizer.json").is_file():
        return data.folder
    if not folders:
        raise BadInput("of: none of the copies has a tokenizer.json; list the model that they were made from")
    return next((one for one in reversed(folders) if ChatTemplate.load(one) is not None), folders[0])


def conversations(data: Artifact | None, count: int) -> list[list[dict[str, str]]]:
    """The first held-out conversations of chat data, each up to its last question."""
    if data is None or data.kind != "chats":
        return []
    import pyarrow.parquet as pq

    rows = pq.read_table(data.path("heldout.parquet"), columns=["messages"])["messages"].slice(0, count).to_pylist()
    asked = [[{"role": one["role"], "content": one["content"]} for one in row] for row in rows]
    return [row[:-1] if row[-1]["role"] == "assistant" else row for row in asked if len(row) > 1 or row[-1]["role"] != "assistant"]
