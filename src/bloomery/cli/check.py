"""`bloomery check`: rerun an artifact's boundary checks."""

from __future__ import annotations

from typing import Annotated

import typer

from bloomery.cli import options

NAME = "check"


def command(
    artifact: Annotated[str, typer.Argument(help="A step of the last run, an artifact's name, or the beginning of its address.")],
    store: options.Store = options.STORE,
    as_json: options.Json = False,
) -> None:
    """Measure an artifact's boundaries again.

    Its files are compared with their hashes and its checks run anew; exit code 1 if one does not hold.
    """
    from bloomery.cli.tables import show_json, show_table
    from bloomery.core.errors import CheckFailed
    from bloomery.core.store import Store
    from bloomery.core.walk import recheck

    opened = Store(store, make=False)
    found = opened.get(artifact)
    checks = recheck(found, opened, quiet=as_json)
    if as_json:
        show_json(checks)
    else:
        rows = [
            ("holds" if one["ok"] else "FAILS", one["name"], f"{one['value']:.6g}", f"{one['limit']:.6g}", one["note"]) for one in checks
        ]
        show_table(("", "check", "value", "limit", "note"), rows, right=("value", "limit"))
    failed = [one["name"] for one in checks if not one["ok"]]
    if failed:
        raise CheckFailed(f"{found.name}: {len(failed)} of {len(checks)} checks do not hold: {', '.join(failed)}")
