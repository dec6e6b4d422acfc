"""Names of a corpus's columns."""

from __future__ import annotations

ABOUT = ("id", "text", "path", "package", "domain", "licence", "source", "bytes")  # columns of every corpus, before those of signals
TOLD = ABOUT[2:]  # what methods may know of a document beside its text
MARKS = "spans"  # column of what is trained of each document (seams.Doc.spans), empty for all of it; beside ABOUT in files of texts alone
