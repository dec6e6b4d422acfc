"""Signal `licence`: what a document says of its own licence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.seams import Doc, Tools

PERMISSIVE, COPYLEFT, CLOSED = 1, 2, 3
# what is looked for in small letters, marks and line ends read as single spaces; the first that is found in this order decides
SIGNS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (COPYLEFT, ("gnu general public license", "gnu lesser general public", "gnu affero general public", "mozilla public license",
                "spdx license identifier gpl", "spdx license identifier lgpl",
                "spdx license identifier agpl", "spdx license identifier mpl",
                "eclipse public license", "european union public licence", "attribution sharealike")),
    (PERMISSIVE, ("spdx license identifier mit", "spdx license identifier apache", "spdx license identifier bsd",
                  "spdx license identifier isc", "spdx license identifier psf", "spdx license identifier python",
                  "spdx license identifier unlicense", "spdx license identifier cc0", "apache license", "mit license",
                  "permission is hereby granted free of charge", "redistribution and use in source and binary forms", "bsd license",
                  "bsd style license", "isc license", "psf license", "python software foundation license", "boost software license",
                  "public domain", "the unlicense", "zlib license", "creative commons attribution")),
    (CLOSED, ("all rights reserved", "proprietary and confidential", "do not distribute", "confidential and proprietary")),
)  # fmt: skip
JOINED = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Licence:
    """Which kind of licence the beginning of a document names, and whether it claims a copyright.

    Source: standard practice; licences found in file headers as in Kocetkov et al. 2022, arXiv 2211.15533 (The Stack).
    Differs: phrases of the well-known licences, not ScanCode's matching of whole texts; a licence that lies beside a file is not seen,
        for which `document.licence` is the source's own word. Where two kinds are named, copyleft goes before permissive.
    Costs: one pass over the first `head` characters.
    """

    head: int = 4000  # characters looked at

    def columns(self, docs: Sequence[Doc], tools: Tools | None) -> dict[str, Sequence[float]]:
        """kind (0 none named, 1 permissive, 2 copyleft, 3 closed), copyright (1 where one is claimed)."""
        heads = [" " + JOINED.sub(" ", doc.text[: self.head].lower()) + " " for doc in docs]
        kinds = [next((kind for kind, signs in SIGNS if any(f" {sign} " in head for sign in signs)), 0) for head in heads]
        claims = [float(" copyright " in head or "©" in doc.text[: self.head]) for head, doc in zip(heads, docs, strict=True)]
        return {"kind": [float(kind) for kind in kinds], "copyright": claims}
