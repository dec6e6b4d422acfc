"""Where the base of an adapter is, by the rules that loading follows."""

from __future__ import annotations

from pathlib import Path


def located(folder: Path, base: str) -> str:
    """`base` as an adapter in `folder` means it: the path beside the adapter, an absolute one, else as it is said.

    What is left as it is said is a path from the working directory, or a hub id where there is no such folder.
    """
    beside = Path(folder) / base  # an absolute path stays what it is
    return str(beside.resolve()) if beside.is_dir() or base.startswith(".") else base
