"""A GGUF file, read back by the package gguf and, where it is installed, run by llama.cpp."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.stages._export_copy import LONGEST, SAMPLES, decode_speed, logits, real_text, sequences, tell_copy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bloomery.core.job import Job
    from bloomery.data.samples import Text
    from bloomery.infer.llama_cpp import LlamaCpp
    from bloomery.nn.gguf import Entry, Stored
    from bloomery.nn.gguf_words import Words
    from bloomery.nn.model import Transformer
    from bloomery.stages.export import Export

FILE = "model.gguf"
# Mean KL, in nats per token, from our decoder to llama.cpp with the same weights. F32 differs by the order of sums alone (1e-13; GPT-2
# by its table of fp16 gelu, 1e-8), the others because ggml rounds what enters a matrix product to fp16 or to 8 bits.
KL = {"F32": 1e-6, "F16": 1e-4, "Q8_0": 5e-3, "Q4_0": 5e-3, "Q4_K": 5e-3}
TIE = {"F32": 0.005, "F16": 0.05}  # two tokens whose logits are nearer than this may change places
SAME = 16  # sequences on which llama.cpp is compared with our decoder and the same weights
PROMPTS, NEW = 8, 32  # greedy completions that are compared, and their tokens
CHAT = (
    {"role": "user", "content": "What does  it do?\n"}, {"role": "assistant", "content": "It ends a text."},
    {"role": "user", "content": "Thanks – é"},
)  # fmt: skip


# ---- out ----------------------------------------------------------------------------------------------------------------


def write(stage: Export, job: Job) -> None:
    """The file, and what became of every tensor."""
    from bloomery.infer.model import load
    from bloomery.nn import gguf, packed
    from bloomery.nn.gguf_words import read_words
    from bloomery.nn.modules import exported

    net, small = exported(load(stage.model.folder).net), packed.read(stage.model.folder)
    words = read_words(stage.model.folder, net.cfg.vocab)
    stored = gguf.write(job.out / FILE, net.cfg, entries(stage, net), words, stage.type, stage.model.name)
    sizes: Counter[str] = Counter()
    for one in stored:
        sizes[one.type] += one.numbers
    total = sum(one.bytes for one in stored)
    job.fact("parameters", net.cfg.parameters())
    job.fact("type", stage.type)
    job.fact("bytes", (job.out / FILE).stat().st_size)
    job.fact("tensor_bytes", total)
    job.fact("tensor_bits_per_weight", 8 * total / sum(one.numbers for one in stored))
    job.fact("numbers_by_type", dict(sizes))
    job.fact("embedding_type", next(one.type for one in stored if one.name == "token_embd.weight"))
    odd = {one.name: one.type for one in stored if one.type not in ("F32", stage.type) and one.name not in gguf.TABLES}
    job.fact("rows_that_blocks_do_not_divide", odd)
    job.fact("pre_tokenizer", words.pre)
    job.fact("codes", codes(stage, stored, bool(small)))


def entries(stage: Export, net: Transformer) -> Iterator[Entry]:
    """The tensors that the file should hold."""
    from bloomery.nn import gguf, packed

    return gguf.contents(net, packed.read(stage.model.folder), stage.type, stage.embedding if stage.quantized else stage.type)


def codes(stage: Export, stored: list[Stored], compressed: bool) -> str:
    """What became of a compressed model's codes, in words."""
    from bloomery.nn.gguf_blocks import QUANTIZED

    how = Counter(one.how for one in stored if one.name.startswith("blk.") and one.type in QUANTIZED)
    kept, again = how["codes kept"], how["quantized"]
    if not stage.quantized:
        return "none: the compressed model was written dense" if compressed else "none"
    if kept and not again:
        return f"lossless: codes kept in all {kept} quantized matrices"
    if kept:
        return f"codes kept in {kept} matrices, {again} requantized by rounding to the nearest"
    where = "requantized: the compressed model's codes do not fit this type" if compressed else "quantized from dense weights"
    how_so = "by least squares in parts of 32" if stage.type == "Q4_K" else "rounding to the nearest"
    others = sum(one.name.startswith("blk.") and one.type == "Q8_0" for one in stored) if stage.type == "Q4_K" else 0
    return f"{where}, {how_so}" + (f"; rows of {others} matrices are no multiple of 256, and Q8_0" if others else "")


def label(stage: Export, said: str) -> str:
    """The name of the copy in tables."""
    return f"GGUF {stage.type}, codes kept" if said.startswith("lossless") else f"GGUF {stage.type}"


# ---- check --------------------------------------------------------------------------------------------------------------


def check(stage: Export, made: Path, job: Job) -> None:
    """Every tensor and key read back; then token ids, logits, greedy tokens and chats as llama.cpp computes them from the file."""
    import torch

    from bloomery.infer import llama_cpp
    from bloomery.infer.model import load, read_tokenizer
    from bloomery.nn import gguf
    from bloomery.nn.gguf_words import read_words
    from bloomery.nn.modules import exported
    from bloomery.nn.saving import assemble

    source, tokenizer = exported(load(stage.model.folder).net), read_tokenizer(stage.model.folder)
    words = read_words(stage.model.folder, source.cfg.vocab)
    keys, tensors = gguf.read(made / FILE)
    differ = gguf.differing(entries(stage, source), tensors)
    job.check("tensors that are not what was meant after reading back", len(differ), 0, note=", ".join(differ[:3]) or f"of {len(tensors)}")
    wrong = gguf.wrong_keys(source.cfg, words, keys)
    job.check("keys that differ after reading back", len(wrong), 0, note=", ".join(wrong[:3]))
    copy = assemble(source.cfg, gguf.to_ours(source.cfg, tensors), torch.float32, made)
    told = sequences(stage.model, stage.data, tokenizer, source.cfg, job.seed)
    if llama_cpp.installed():
        with llama_cpp.LlamaCpp(made / FILE, context=min(source.cfg.context, LONGEST)) as opened:
            check_tokens(opened, tokenizer, words, job)
            check_chat(opened, stage.model.folder, words, job)
            check_logits(opened, copy, tokenizer, told, stage.type, job)
    else:
        job.fact("llama_cpp", "llama.cpp was not there: figures are of our decoder with the tensors read back from the file")
    measure(stage, source, copy, tokenizer, told, made, job)


def check_tokens(opened: LlamaCpp, tokenizer: Any, words: Words, job: Job) -> None:
    """llama.cpp's token ids of every text against ours; names of special tokens are read as such only when that is asked for."""
    texts = [unicodedata.normalize(words.normalizer, text) if words.normalizer else text for text in (*SAMPLES, real_text())]
    ids = {text: tokenizer.encode(text).ids for text in texts}
    of = f"of {len(ids)}" + (f"; texts in {words.normalizer} form, which llama.cpp does not make" if words.normalizer else "")
    differ = [text for text, ours in ids.items() if opened.encode(text) != ours]
    job.check("texts with other token ids in llama.cpp", len(differ), 0, note="; ".join([of, *map(repr, differ)])[:200])
    job.check("texts that llama.cpp does not give back", sum(opened.decode(ours) != text for text, ours in ids.items()), 0, note=of)
    if words.begins:
        job.check("texts without exactly one begin token", sum(ours.count(words.ids["bos"]) != 1 for ours in ids.values()), 0, note=of)
    control = [i for i, kind in enumerate(words.types) if kind == 3]
    asked = sum(opened.encode(f"a{words.tokens[i]}", special=True).count(i) <= (i == words.ids["bos"] and words.begins) for i in control)
    unasked = sum(opened.encode(f"a{words.tokens[i]}").count(i) > (i == words.ids["bos"] and words.begins) for i in control)
    job.check("names of special tokens read as such unasked, or not when asked", asked + unasked, 0, note=f"of {len(control)}")


def check_chat(opened: LlamaCpp, folder: Path, words: Words, job: Job) -> None:
    """The chat template in the file, and a chat laid out by it, in token ids."""
    job.fact("chat_template", words.template is not None)
    if words.template is None:
        return
    from bloomery.data.chat.template import ChatTemplate

    job.check("chat templates that differ in llama.cpp", int(opened.metadata.get("tokenizer.chat_template") != words.template), 0)
    ours, theirs = list(ChatTemplate.load(folder).prompt(CHAT)), opened.chat(CHAT)
    job.check("chats with other token ids in llama.cpp", int(ours != theirs), 0, note=f"{len(ours)} tokens")


def check_logits(opened: LlamaCpp, copy: Transformer, tokenizer: Any, told: Text, kind: str, job: Job) -> None:
    """llama.cpp against our decoder with the same weights: divergence, and for unquantized types the greedy tokens."""
    from bloomery.infer.decoder import Decoder
    from bloomery.infer.parity import parity

    ids = told.ids[:SAME]
    found = parity(logits(copy), opened.logits, ids)
    note = f"{kind}, {found.tokens} tokens; largest logit difference {found.largest:.2g}, agreement {found.agreement:.4f}"
    job.check("KL from our decoder to llama.cpp, the same weights", found.kl, KL[kind], note=note)
    job.fact("logit_difference_to_llama_cpp", found.largest)
    prompts = [one[: max(1, min(len(one), opened.context - NEW) // 2)] for one in ids[:PROMPTS]]
    free = Decoder(copy, tokenizer)
    parted, ties = [], 0
    for i, prompt in enumerate(prompts):
        ours, theirs = list(free.generate([prompt], limit=NEW)[0].ids), opened.greedy(prompt, NEW)
        gap = margin(copy, prompt, ours, theirs)
        ties += gap is not None
        parted += [f"prompt {i} by {gap:.2g}"] if gap is not None and gap > TIE.get(kind, 0.0) else []
    job.fact("greedy_prompts_equal", f"{len(prompts) - ties} of {len(prompts)}")
    if kind in TIE:
        said = f"of {len(prompts)}, {NEW} tokens each; {ties - len(parted)} part where two logits are nearer than {TIE[kind]}"
        job.check("prompts that llama.cpp completes otherwise", len(parted), 0, note="; ".join([said, *parted]))


def margin(net: Transformer, prompt: list[int], ours: list[int], theirs: list[int]) -> float | None:
    """How far apart our logits are of the two tokens at which completions first differ; None where they do not."""
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), None)
    if at is None:
        return None if len(ours) == len(theirs) else float("inf")
    last = logits(net)([*prompt, *ours[:at]])[-1]
    return float(last[ours[at]] - last[theirs[at]])


def measure(stage: Export, source: Transformer, copy: Transformer, tokenizer: Any, told: Text, made: Path, job: Job) -> None:
    """The figures of the copy against the model it was made from, as llama.cpp runs it where it is there."""
    from bloomery.core.machine import threads
    from bloomery.infer import llama_cpp
    from bloomery.infer.parity import parity

    said = job.facts.get("codes", "")
    notes = [said if stage.quantized else "", f"the file holds the tokenizer too; embedding and head {job.facts.get('embedding_type', '')}"]
    speed, engine = None, "bloomery, from the file read back"
    theirs = decode_speed(source, tokenizer, told.ids[0])
    if llama_cpp.installed():
        engine = "llama.cpp"
        with llama_cpp.LlamaCpp(made / FILE, context=min(source.cfg.context, LONGEST)) as opened:
            found = parity(logits(source), opened.logits, told.ids, told.counted)
            speed = llama_cpp.decode_speed(opened, told.ids[0])
            notes.append(
                f"llama.cpp with {opened.processors} {'thread' if opened.processors == 1 else 'threads'}, bloomery with {threads()}"
            )
    else:
        found = parity(logits(source), logits(copy), told.ids, told.counted)
        notes.append("llama.cpp was not there")
    tell_copy(
        job, stage.model, made / FILE, source.cfg.parameters(), found, label=label(stage, said), engine=engine,
        text=told.what, note="; ".join(note for note in notes if note), speed=speed, source_speed=theirs,
    )  # fmt: skip
