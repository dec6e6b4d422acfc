"""What a file of a source tree is: its language by its name, whether it is text that somebody wrote, and under which licence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

HEAD = 8192  # bytes in which a NUL makes a file binary
LANGUAGES = {
    "assembly": "s asm", "batch": "bat cmd", "bibtex": "bib", "c": "c h", "c#": "cs", "c++": "cc cpp cxx hpp hh hxx",
    "clojure": "clj cljs edn", "cmake": "cmake", "css": "css scss sass less", "cuda": "cu cuh", "dart": "dart", "elixir": "ex exs",
    "erlang": "erl hrl", "fortran": "f f90 f95 f03", "f#": "fs fsi", "go": "go", "groovy": "groovy gradle", "haskell": "hs lhs",
    "html": "html htm", "ini": "ini cfg", "java": "java", "javascript": "js jsx mjs cjs", "json": "json", "julia": "jl",
    "kotlin": "kt kts", "lisp": "lisp el scm rkt", "lua": "lua", "makefile": "mk", "markdown": "md markdown", "matlab": "m", "nim": "nim",
    "nix": "nix", "ocaml": "ml mli", "pascal": "pas", "perl": "pl pm", "php": "php", "powershell": "ps1", "protobuf": "proto",
    "python": "py pyi pyx", "r": "r rmd", "restructuredtext": "rst", "ruby": "rb", "rust": "rs", "scala": "scala sc",
    "shell": "sh bash zsh fish", "solidity": "sol", "sql": "sql", "svelte": "svelte", "swift": "swift", "tcl": "tcl", "terraform": "tf",
    "tex": "tex sty cls", "text": "txt", "toml": "toml", "typescript": "ts tsx", "verilog": "v sv", "vhdl": "vhd vhdl", "vue": "vue",
    "xml": "xml xsl", "yaml": "yaml yml", "zig": "zig",
}  # fmt: skip
BY_ENDING = {ending: name for name, endings in LANGUAGES.items() for ending in endings.split()}
BY_NAME = {"makefile": "makefile", "gnumakefile": "makefile", "dockerfile": "dockerfile", "cmakelists.txt": "cmake", "rakefile": "ruby",
           "gemfile": "ruby", "build": "starlark", "workspace": "starlark"}  # fmt: skip
ENDINGS_OF = {
    "binary": "png jpg jpeg gif bmp ico webp tif tiff psd mp3 mp4 wav ogg flac avi mov mkv webm woff woff2 ttf otf eot zip gz bz2 xz zst 7z"
    " rar tar tgz jar war whl egg so dll dylib exe o a lib obj pyc pyo class wasm bin dat db sqlite pdf doc docx xls xlsx ppt pptx npy npz"
    " pt pth onnx safetensors gguf h5 pkl pickle",
    "data file": "jsonl ndjson parquet arrow feather csv tsv warc",
}
NOT_SOURCES = {ending: why for why, endings in ENDINGS_OF.items() for ending in endings.split()}
WRITTEN_BY_TOOLS = (
    "*.min.js",
    "*.min.css",
    "*.map",
    "*.lock",
    "package-lock.json",
    "pnpm-lock.yaml",
    "go.sum",
    "*_pb2.py",
    "*.pb.go",
    "*.svg",
)
VERSIONED, INSTALLED = (".git", ".hg", ".svn", ".bzr"), (".tox", ".nox", ".venv", "venv", "node_modules", "bower_components")
CACHES = ("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".idea", ".vs")
IGNORED = frozenset((*VERSIONED, *INSTALLED, *CACHES))
LICENCE_FILE = re.compile(r"(?i)^(licen[cs]e|copying|unlicense)([-_.].{0,40})?$")
SPDX = re.compile(r"SPDX-License-Identifier:[ \t]{0,8}([A-Za-z0-9.+ ()-]{1,100})")
PHRASES = (  # the first that a licence's text holds names it; white space is made single and letters small
    ("AGPL-3.0", "gnu affero general public license"), ("LGPL-3.0", "gnu lesser general public license version 3"),
    ("LGPL-2.1", "gnu lesser general public license"), ("GPL-3.0", "gnu general public license version 3"),
    ("GPL-2.0", "gnu general public license version 2"), ("Apache-2.0", "apache license version 2.0"),
    ("MPL-2.0", "mozilla public license version 2.0"), ("MPL-2.0", "mozilla public license, version 2.0"),
    ("EPL-2.0", "eclipse public license - v 2.0"), ("BSL-1.0", "boost software license - version 1.0"),
    ("CC0-1.0", "cc0 1.0 universal"), ("CC-BY-SA-4.0", "attribution-sharealike 4.0 international"),
    ("CC-BY-4.0", "attribution 4.0 international"), ("PSF-2.0", "python software foundation license version 2"),
    ("Unlicense", "this is free and unencumbered software released into the public domain"),
    ("ISC", "permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted"),
    ("MIT", "permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated"),
    ("Zlib", "this software is provided 'as-is', without any express or implied warranty. in no event will the authors be held liable"),
    ("BSD-3-Clause", "may be used to endorse or promote products derived from this software"),
    ("BSD-2-Clause", "redistributions in binary form must reproduce the above copyright notice"),
)  # fmt: skip
UNKNOWN = "LicenseRef-unknown"


def language(path: str) -> str:
    """The language that a file's name tells, "" for none."""
    name = path.rpartition("/")[2].lower()
    return BY_NAME.get(name) or BY_ENDING.get(name.rpartition(".")[2] if "." in name else "", "")


def ignored(path: str) -> bool:
    """Whether a file lies in a folder that holds no sources: of version control, of installed packages, of caches."""
    return any(part in IGNORED for part in path.split("/")[:-1])


def unwanted(path: str) -> str:
    """Why a file is left out for its name alone, "" where it is not."""
    name = path.rpartition("/")[2].lower()
    ending = name.rpartition(".")[2] if "." in name else ""
    if ending in NOT_SOURCES:
        return NOT_SOURCES[ending]
    return "generated" if any(fnmatchcase(name, pattern) for pattern in WRITTEN_BY_TOOLS) else ""


def patterns(given: str) -> tuple[str, ...]:
    """The patterns of `include` or `exclude`."""
    return tuple(filter(None, (one.strip() for one in given.split(","))))


def chosen(path: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Whether a file is asked for: a pattern with / is of its whole path, another of its name or of a folder on its way."""
    return (not include or _matches(path, include)) and not _matches(path, exclude)


def _matches(path: str, given: Sequence[str]) -> bool:
    parts = PurePosixPath(path).parts
    return any(fnmatchcase(path, one) if "/" in one else any(fnmatchcase(part, one) for part in parts) for one in given)


def is_licence(path: str) -> bool:
    """Whether a file's name says that it is a licence."""
    return bool(LICENCE_FILE.match(path.rpartition("/")[2]))


def licence_named(text: str) -> str:
    """The SPDX identifier of a licence's text, by a phrase that is its own."""
    stated = SPDX.search(text[:HEAD])
    plain = " ".join(re.sub(r"[^a-z0-9.,/' -]", " ", text[:60_000].lower()).split())
    plain = plain.replace("license, version 2.0, january", "license version 2.0, january")
    return stated[1].strip() if stated else next((name for name, phrase in PHRASES if phrase in plain), UNKNOWN)


def licence_for(path: str, head: str, known: dict[str, str]) -> str:
    """The licence of a file: what its own head states, else that of the nearest folder above. `known`: by folder, "" is the root."""
    if stated := SPDX.search(head[:HEAD]):
        return stated[1].strip()
    parts = path.split("/")[:-1]
    return next((known[folder] for k in range(len(parts), -1, -1) if (folder := "/".join(parts[:k])) in known), "")
