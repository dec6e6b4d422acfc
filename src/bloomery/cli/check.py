"""`bloomery check`: rerun an artifact's boundary checks, or measure its whole way from the pretrained model to the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bloomery.cli import options

if TYPE_CHECKING:
    from bloomery.core.store import Artifact, Store
    from bloomery.stages.chain import Chain

NAME = "check"


def command(
    artifact: Annotated[str, typer.Argument(help="A step of the last run, an artifact's name, or the beginning of its address.")],
    chain: Annotated[bool, typer.Option("--chain", help="Compare every copy on the model's way with what it was made from.")] = False,
    server: Annotated[bool, typer.Option(help="With --chain: ask the last copy over HTTP too.")] = True,
    store: options.Store = options.STORE,
    as_json: options.Json = False,
) -> None:
    """Measure an artifact's boundaries again.

    Its files are compared with their hashes and its checks run anew; exit code 1 if one does not hold.
    With --chain, every copy from the pretrained model to the server is compared with its source.
    """
    from bloomery.core.errors import CheckFailed
    from bloomery.core.store import Store

    opened = Store(store, make=False)
    found = opened.get(artifact)
    checks = show_chain(found, opened, server, as_json) if chain else show_checks(found, opened, as_json)
    failed = [one["name"] for one in checks if not one["ok"]]
    if failed:
        raise CheckFailed(f"{found.name}: {len(failed)} of {len(checks)} checks do not hold: {', '.join(failed)}")


def show_checks(found: Artifact, store: Store, as_json: bool) -> Sequence[Mapping[str, Any]]:
    """An artifact's own checks, measured and shown."""
    from bloomery.cli.tables import show_json, show_table
    from bloomery.core.walk import recheck

    checks = recheck(found, store, quiet=as_json)
    if as_json:
        show_json(checks)
    else:
        rows = [
            ("holds" if one["ok"] else "FAILS", one["name"], f"{one['value']:.6g}", f"{one['limit']:.6g}", one["note"]) for one in checks
        ]
        show_table(("", "check", "value", "limit", "note"), rows, right=("value", "limit"))
    return checks


# ---- the whole way -------------------------------------------------------------------------------------------------------


def show_chain(found: Artifact, store: Store, server: bool, as_json: bool) -> list[dict[str, Any]]:
    """Every hop of an artifact's way, measured afresh and shown; nothing is stored. Returns its limits as checks."""
    from bloomery.cli.copies import show_hops
    from bloomery.cli.tables import show_json
    from bloomery.stages.chain import held

    stage = chain_of(found, store, server)
    damaged = [f"{one.name}/{name}" for one in stage.of if "files" in one.card for name in store.verify(one)]
    if damaged:  # nothing can be said of copies that are not what they were
        return [{"name": f"files that differ from their hash ({', '.join(damaged)})", "ok": False}]
    told = stage.measured(int(found.card.get("seed") or 0), store)
    if as_json:
        show_json(told["hops"])
    else:
        show_hops(told["hops"])
        typer.echo(f"compared on {told['text']}; KL in nats per token, from the source to the copy")
    return [
        {"name": f"{row['from']} to {row['to']}: {name}", "ok": value <= limit}
        for row in told["hops"]
        for name, value, limit, _ in held(row)
    ]


def chain_of(found: Artifact, store: Store, server: bool) -> Chain:
    """The chain to be measured: an artifact of the kind as it was made, else all models on the way to the artifact and from it on."""
    from dataclasses import replace

    from bloomery.core.errors import BadInput
    from bloomery.core.walk import lineage_of, rebuilt
    from bloomery.stages.chain import Chain, is_model

    if found.kind == "chain":
        made = rebuilt(found, store)
        return replace(made, server=made.server and server)
    way = list(lineage_of(found, store))
    copies = {one.address: one for one in (*outside(way, store), *way, *made_from(found, store)) if is_model(one)}
    of = tuple(copies.values())
    if len(of) < 2 and not server:
        raise BadInput(f"{found.name}: one model and no copy of it is on its way; name a copy, or leave --no-server out")
    if not of:
        raise BadInput(f"{found.name}: no model is on its way; name a model, a copy of one or a report about them")
    return Chain(of, text_of(way), server)


def outside(way: Sequence[Artifact], store: Store) -> Iterator[Artifact]:
    """The folders from outside that artifacts came from."""
    from bloomery.core.walk import ancestor

    for one in way:
        for address in one.card.get("folders", {}):
            yield ancestor(one, address, store)


def made_from(found: Artifact, store: Store) -> list[Artifact]:
    """Everything in the store that was made from an artifact, oldest first; nothing where it is no model itself."""
    from bloomery.stages.chain import is_model

    known, later = {found.address}, []
    if is_model(found):
        for one in store.all():
            if known & set(one.parents()):
                known.add(one.address)
                later.append(one)
    return later


def text_of(way: Sequence[Artifact]) -> Artifact | None:
    """The held-out text to compare on: the last chats on the way, else the last tokens, else none."""
    from bloomery.data.samples import has

    for kind in ("chats", "tokens"):
        found = [one for one in way if one.kind == kind and has(one.folder, "heldout")]
        if found:
            return found[-1]
    return None
