"""A byte-level BPE tokenizer as a GGUF file describes it, so that llama.cpp cuts and joins a text exactly as `tokenizer.json` does."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.nn.hf import special_ids

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # llama.cpp's token types
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MARKS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# what cuts the text before the merges, one pattern after the other -> llama.cpp's name, and whether whole words skip the merges there
FAMILIES: dict[tuple[str, ...], tuple[str, bool]] = {
    (GPT2,): ("gpt-2", False),
    (r"\p{N}", GPT2): ("smollm", False),
    (MARKS + r"\p{N}{1,3}" + REST,): ("llama-bpe", True),
    (MARKS + r"\p{N}" + REST,): ("qwen2", False),
}


@dataclass(frozen=True)
class Words:
    """What stands under `tokenizer.` in the file. `tokens` are in the byte-level alphabet, special ones as they are written."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    pre: str
    ids: dict[str, int]  # bos, eos, pad, eot: those that there are
    begins: bool  # a begin token is put before every text
    ends: bool
    template: str | None
    normalizer: str = ""  # a step that llama.cpp leaves out: texts must come in this form


def read_words(folder: Path, vocab: int) -> Words:
    """The tokenizer of a model's folder, padded to `vocab` ids; BadInput names what llama.cpp would do otherwise."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise BadInput(f"{folder} holds no tokenizer.json; put the one that the model was trained with beside it")
    read = json.loads(file.read_text(encoding="utf-8"))
    model = read["model"]
    odd = [name for name in ("byte_fallback", "dropout", "continuing_subword_prefix", "end_of_word_suffix") if model.get(name)]
    if model.get("type", "BPE") != "BPE" or odd or (read.get("decoder") or {}).get("type") != "ByteLevel":
        what = f"{model.get('type')} {', '.join(odd)}".strip()
        raise BadInput(f"{file}: GGUF is written for byte-level BPE tokenizers, and this one is {what}; export as huggingface")
    pre, whole = _family(read.get("pre_tokenizer"), file)
    if bool(model.get("ignore_merges")) != whole:
        raise BadInput(f"{file}: ignore_merges is {model.get('ignore_merges')}, and llama.cpp's {pre!r} has {whole}; export as huggingface")
    tokens, types = _tokens(model["vocab"], read.get("added_tokens") or [], vocab, file)
    first, last = _template(read.get("post_processor"), file)
    ids = _ids(folder, tokens, first, last, file)
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    if not merges:
        raise BadInput(f"{file} has no merges, and llama.cpp opens no such file; learn a larger vocabulary")
    form = _normalizer(read.get("normalizer"), file)
    return Words(tokens, types, merges, pre, ids, first is not None, last is not None, chat_template(folder), form)


def chat_template(folder: Path) -> str | None:
    """The Jinja template of a folder, None where there is none; of several named ones, the default."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if not (folder / "tokenizer_config.json").is_file():
        return None
    found = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    if isinstance(found, list):
        found = next((one["template"] for one in found if one.get("name") == "default"), None)
    return found


def _family(step: dict[str, Any] | None, file: Path) -> tuple[str, bool]:
    """llama.cpp's name of what cuts a text into words."""
    steps = (step or {}).get("pretokenizers", [step] if step else [])
    patterns, levelled = [], False
    for one in steps:
        kind = one.get("type")
        if kind == "ByteLevel" and not one.get("add_prefix_space", True):
            levelled = True
            patterns += [GPT2] if one.get("use_regex", True) else []
        elif kind == "Digits" and one.get("individual_digits"):
            patterns.append(r"\p{N}")
        elif kind == "Split" and one.get("behavior") == "Isolated" and not one.get("invert") and "Regex" in one.get("pattern", {}):
            patterns.append(one["pattern"]["Regex"])
        else:
            patterns.append(f"{kind} {json.dumps({key: value for key, value in one.items() if key != 'type'})}")
    found = FAMILIES.get(tuple(patterns))
    if found is None or not levelled:
        known = ", ".join(name for name, _ in FAMILIES.values())
        said = " then ".join(patterns) or "nothing"
        raise BadInput(f"{file} cuts texts by {said[:300]}, which is none of the ways known here ({known}); export as huggingface")
    return found


def _normalizer(step: dict[str, Any] | None, file: Path) -> str:
    """The Unicode form that texts are brought into first, "" for none."""
    kinds = [one.get("type") for one in (step or {}).get("normalizers", [step] if step else [])]
    if kinds not in ([], ["NFC"]):
        raise BadInput(f"{file}: the normalizer {', '.join(map(str, kinds))} has no equal in llama.cpp; export as huggingface")
    return kinds[0] if kinds else ""


def _tokens(learnt: dict[str, int], added: list[dict[str, Any]], vocab: int, file: Path) -> tuple[list[str], list[int]]:
    """Every id's text and type; ids that the tokenizer does not use are named [PAD...]."""
    tokens = [f"[PAD{i}]" for i in range(vocab)]
    types = [UNUSED] * vocab
    highest = max([*learnt.values(), *(one["id"] for one in added)])
    if highest >= vocab:
        raise BadInput(f"{file} has the id {highest} and the model has {vocab} tokens; put the tokenizer of this model there")
    for token, i in learnt.items():
        tokens[i], types[i] = token, NORMAL
    for one in added:
        tokens[one["id"]], types[one["id"]] = one["content"], CONTROL if one.get("special") else USER_DEFINED
    return tokens, types


def _template(step: dict[str, Any] | None, file: Path) -> tuple[str | None, str | None]:
    """The special tokens that the tokenizer puts before and after a text."""
    steps = (step or {}).get("processors", [step] if step else [])
    templates = [one for one in steps if one.get("type") != "ByteLevel"]
    if not templates:
        return None, None
    parts = templates[0].get("single", []) if templates[0].get("type") == "TemplateProcessing" else []
    names = [part["SpecialToken"]["id"] if "SpecialToken" in part else None for part in parts]
    if len(templates) > 1 or names.count(None) != 1 or len(names[: names.index(None)]) > 1 or len(names[names.index(None) + 1 :]) > 1:
        raise BadInput(f"{file}: llama.cpp puts one token before and one after a text at most; mend the post_processor")
    middle = names.index(None)
    return next(iter(names[:middle]), None), next(iter(names[middle + 1 :]), None)


def _ids(folder: Path, tokens: list[str], first: str | None, last: str | None, file: Path) -> dict[str, int]:
    """bos, eos, pad and eot as llama.cpp calls them. Without an end token it would take the eleventh, so one must be named."""
    found = {role.removesuffix("_token"): i for role, i in special_ids(folder).items()}
    found |= {role: tokens.index(token) for role, token in (("bos", first), ("eos", last)) if token}
    if "eos" not in found:
        raise BadInput(f"{file.parent / 'tokenizer_config.json'} names no eos_token, and llama.cpp needs one; add it")
    found.setdefault("bos", found["eos"])  # never put before a text then; the usual stand-in
    defaults = folder / "generation_config.json"
    ends = json.loads(defaults.read_text(encoding="utf-8")).get("eos_token_id") if defaults.is_file() else None
    others = [i for i in (ends if isinstance(ends, list) else [ends]) if i is not None and i != found["eos"]]
    return found | ({"eot": others[0]} if others else {})
