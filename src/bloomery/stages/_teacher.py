"""A further model of a loss: read, and where it is a teacher of tokens, made to speak the student's vocabulary and remembered on disk."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from bloomery.core.errors import BadInput
from bloomery.core.files import write_json
from bloomery.core.store import TAUGHT

SAMPLED = 64  # documents on which two tokenizers are compared


def role(name: str, model: Any, stage: Any, vocab: int, job: Any) -> Any:
    """The model of a role. One whose tokens are compared with the student's is aligned, or refused (BadInput) where that cannot be; a loss
    that caches gets one that runs once for each row."""
    from bloomery.nn.saving import load

    if not getattr(stage.loss, "compares_tokens", False) or name != "teacher":
        return load(model.folder).requires_grad_(False)
    ids = alignment(model.folder, stage.data, vocab)

    def make() -> Any:
        from bloomery.train.teacher import Aligned

        net = load(model.folder).requires_grad_(False)
        return net if ids is None else Aligned(net, ids)

    if not stage.loss.cache:
        return make()
    from bloomery.nn.parts import digest
    from bloomery.train.teacher import Remembered

    told = (digest(model.folder), None if ids is None else ids.tolist(), vocab, stage.loss.top, stage.loss.temperature)
    name = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
    if job.store is None:
        return Remembered(make, vocab, job.work / "teachers" / name, stage.loss.top, stage.loss.temperature)
    place = job.store.teachers / name
    if job.ranks.first:  # before anything is read, so that `gc` leaves it
        job.teachers.append(name)
        write_json(job.work / TAUGHT, job.teachers)
    return Remembered(make, vocab, place, stage.loss.top, stage.loss.temperature)


def told(roles: dict[str, Any], job: Any) -> None:
    """How often a remembered teacher was asked, and how often it knew, by role."""
    asked = {name: {"rows": one.asked, "known": one.met} for name, one in roles.items() if hasattr(one, "met")}
    if asked:
        job.fact("teacher_rows", asked)


def alignment(teacher: Path, data: Any, vocab: int) -> Any:
    """The teacher's id of each of the student's tokens, int64 (vocab); None where all are the same.

    The teacher must have every token of the student, and both must cut the same texts at the same places. BadInput where they do not.
    """
    import torch
    from tokenizers import Tokenizer

    from bloomery.nn.parts import Source

    size, files = Source(teacher).cfg.vocab, (data.path("tokenizer.json"), Path(teacher) / "tokenizer.json")
    mend = "take a teacher of the same tokenizer"
    if not all(file.is_file() for file in files):
        if size != vocab:
            raise BadInput(f"roles: the teacher has {size} tokens and the model {vocab}, and no tokenizer tells which is which; {mend}")
        return None
    ours, theirs = (Tokenizer.from_file(str(file)) for file in files)
    own, others = ours.get_vocab(with_added_tokens=True), theirs.get_vocab(with_added_tokens=True)
    if size == vocab and files[0].read_bytes() == files[1].read_bytes():
        return None
    if lost := sorted(token for token in own if others.get(token, size) >= size):
        raise BadInput(f"roles: {len(lost)} tokens of the model are none of the teacher's, such as {lost[0]!r}; {mend}")
    by_id, alike = {i: token for token, i in own.items()}, size == vocab and own.items() <= others.items()
    if not alike and (spare := [i for i in range(vocab) if i not in by_id]):
        raise BadInput(f"roles: the model's id {spare[0]} has no text by which it could be found among the teacher's; {mend}")
    ids = torch.tensor([i if alike else others[by_id[i]] for i in range(vocab)])
    for text in texts(data):
        own_ids, their_ids = (one.encode(text, add_special_tokens=False).ids for one in (ours, theirs))
        if ids[torch.tensor(own_ids, dtype=torch.long)].tolist() != their_ids:
            raise BadInput(f"roles: the teacher cuts a text otherwise than the model's tokenizer, which begins {text[:40]!r}; {mend}")
    return None if alike else ids


def texts(data: Any) -> list[str]:
    """Some of the text that is trained on."""
    from bloomery.data.decoded import Decoded
    from bloomery.data.shards import Shards
    from bloomery.data.tokenizer import Tokenizer

    docs = Decoded(Shards(data.path("train")), Tokenizer.load(data.folder))
    return [docs[i].text for i in range(min(SAMPLED, len(docs)))]
