"""Further models of a loss: bound to its roles, made to speak the student's vocabulary, and a teacher of tokens remembered on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.core import catalog
from bloomery.core.errors import BadInput
from bloomery.core.files import write_json
from bloomery.core.store import TAUGHT

if TYPE_CHECKING:
    from bloomery.nn.config import Config

SAMPLED = 64  # documents on which two tokenizers are compared


def bound(stage: Any, parts: Collection[str] = ()) -> None:
    """BadInput for a role that the loss reads and the recipe does not bind, or the other way round; `parts` are the loss's own."""
    wanted = set(catalog.attribute("loss", stage.loss, "roles") or ()) - {"net", *parts}
    if odd := sorted(wanted ^ (stage.roles or {}).keys()):
        named = type(stage.loss).__name__
        raise BadInput(f"roles: the loss {named} reads {', '.join(sorted(wanted)) or 'no further model'}, and {', '.join(odd)} differ")


def outlines(stage: Any, like: Config) -> dict[str, Any]:
    """The models of the roles for a rehearsal, without their numbers; those that are not made yet are taken to be like the trained one."""
    from bloomery.nn.model import Transformer
    from bloomery.stages._forecast import shape_of

    shapes = {name: shape_of(one, {"config": vars(like)}) for name, one in (stage.roles or {}).items()}
    return {name: Transformer(shape).requires_grad_(False) for name, shape in shapes.items()}


def further(stage: Any, cfg: Config, row: int, words: Path, texts: Callable[[], Sequence[str]], job: Any) -> dict[str, Any]:
    """The models of the roles, by their names, for a student of this config that is trained on rows of so many tokens.

    `words` is the tokenizer.json of its tokens, and `texts` give some of what is trained on. BadInput for one that cannot read such rows.
    """
    return {name: _role(name, one.folder, stage.loss, (cfg, row), (words, texts), job) for name, one in (stage.roles or {}).items()}


def _role(name: str, folder: Path, loss: Any, rows: tuple[Config, int], said: tuple[Path, Callable[[], Sequence[str]]], job: Any) -> Any:
    """One model, aligned where its tokens have other numbers; for a loss that caches its teacher, one that runs once for each row."""
    from bloomery.nn.parts import digest

    ids, vocab = alignment(name, folder, rows, *said), rows[0].vocab

    def make() -> Any:
        from bloomery.infer.model import load
        from bloomery.train.teacher import Aligned

        net = load(folder).net.requires_grad_(False)
        return net if ids is None else Aligned(net, ids)

    if name != "teacher" or not (getattr(loss, "compares_tokens", False) and loss.cache):
        return make()
    from bloomery.train.teacher import Remembered

    told = (digest(folder), None if ids is None else ids.tolist(), vocab, loss.top, loss.temperature)
    key = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
    if job.store is not None and job.ranks.first:  # before anything is read, so that `gc` leaves it
        job.teachers.append(key)
        write_json(job.work / TAUGHT, job.teachers)
    home = job.work / "teachers" if job.store is None else job.store.teachers
    return Remembered(make, vocab, home / key, loss.top, loss.temperature)


def told(roles: dict[str, Any], job: Any) -> None:
    """How often a remembered teacher was asked, and how often it knew, by role."""
    asked = {name: {"rows": one.asked, "known": one.met} for name, one in roles.items() if hasattr(one, "met")}
    if asked:
        job.fact("teacher_rows", asked)


def alignment(name: str, folder: Path, rows: tuple[Config, int], words: Path, texts: Callable[[], Sequence[str]]) -> Any:
    """The id that the model of a role has for each of the student's tokens, int64 (vocab); None where all are the same.

    It must have every token of the student, both must cut the same texts at the same places, and it must see as much of a row. BadInput
    where that is not so.
    """
    import torch
    from tokenizers import Tokenizer

    cfg, row = rows
    vocab, size, theirs = cfg.vocab, readable(name, folder, cfg, row), Path(folder) / "tokenizer.json"
    who, mend = f"roles: the {name}", "take one of the same tokenizer"
    if not (words.is_file() and theirs.is_file()):
        if size != vocab:
            raise BadInput(f"{who} has {size} tokens and the model {vocab}, and no tokenizer tells which is which; {mend}")
        return None
    own_words, their_words = (Tokenizer.from_file(str(file)) for file in (words, theirs))
    own, others = (one.get_vocab(with_added_tokens=True) for one in (own_words, their_words))
    if size == vocab and words.read_bytes() == theirs.read_bytes():
        return None
    if lost := sorted(token for token in own if others.get(token, size) >= size):
        raise BadInput(f"{who} lacks {len(lost)} tokens of the model, such as {lost[0]!r}; {mend}")
    by_id, alike = {i: token for token, i in own.items()}, size == vocab and own.items() <= others.items()
    if not alike and (spare := [i for i in range(vocab) if i not in by_id]):
        raise BadInput(f"roles: the model's id {spare[0]} has no text by which it could be found among those of the {name}; {mend}")
    ids = torch.tensor([i if alike else others[by_id[i]] for i in range(vocab)])
    for text in texts():
        own_ids, their_ids = (one.encode(text, add_special_tokens=False).ids for one in (own_words, their_words))
        if ids[torch.tensor(own_ids, dtype=torch.long)].tolist() != their_ids:
            raise BadInput(f"{who} cuts a text otherwise than the model's tokenizer, which begins {text[:40]!r}; {mend}")
    return None if alike else ids


def readable(name: str, folder: Path, cfg: Config, row: int) -> int:
    """The tokens that the model of a role has; BadInput for one that is an adapter, or that sees less or more of a row than the student."""
    from bloomery.nn.parts import Source

    if (Path(folder) / "adapter_config.json").is_file():
        raise BadInput(f"roles: the {name} is an adapter; merge it first (a merge step), and name what that makes")
    found = Source(folder).cfg
    if found.encoder_layers or found.causal != cfg.causal:
        raise BadInput(f"roles: the {name} does not see the same tokens before each as the model does; take one of its kind")
    if found.context < row:
        raise BadInput(f"roles: the {name} reads {found.context} tokens at most, and rows have {row}; say a smaller context")
    return found.vocab


def texts(data: Any) -> list[str]:
    """Some of the text of token shards."""
    from bloomery.data.decoded import Decoded
    from bloomery.data.shards import Shards
    from bloomery.data.tokenizer import Tokenizer

    docs = Decoded(Shards(data.path("train")), Tokenizer.load(data.folder))
    return [docs[i].text for i in range(min(SAMPLED, len(docs)))]
