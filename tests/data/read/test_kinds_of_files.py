"""Arrow, Markdown, HTML, PDF and WARC files, source trees and git repositories, as sources."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

from bloomery.data import sources
from bloomery.data.documents import Broken
from bloomery.data.read import arrow, kinds, markdown
from bloomery.seams import Doc

ROWS = [{"text": f"document {i} naïve 日本", "name": f"n{i}", "other": i} for i in range(50)]
PROSE = "The bloomery was the first furnace in which people made iron. It stood wherever ore, charcoal and clay were found. " * 6
PAGE = (
    "<html><head><title>On furnaces</title><meta charset='{charset}'></head><body>"
    "<nav><a href='/'>Home</a> <a href='/x'>Menu entry</a></nav>"
    "<article><h1>On furnaces</h1><p>{prose}</p><p>Grüße. {prose}</p></article><footer>Imprint and cookies</footer></body></html>"
)


def page(charset: str = "utf-8") -> bytes:
    return PAGE.format(charset=charset, prose=PROSE).encode(charset)


LOCKED = b" /ID [<00> <00>] /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (b"5a" * 32, b"a5" * 32)  # no password


def pdf(text: str, more: bytes = b"") -> bytes:
    """A one-page PDF with a text layer; `more` stands in its trailer."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode("latin-1")
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Title (On furnaces) /CreationDate (D:20240131120000) >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(bodies, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    tail = b"trailer << /Size 7 /Root 1 0 R /Info 6 0 R%s >>\nstartxref\n%d\n%%%%EOF" % (more, len(out))
    return out + b"xref\n0 7\n0000000000 65535 f \n" + table + tail


def record(kind: str, url: str, content_type: str, body: bytes) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2024-05-06T07:08:09Z\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n\r\n"


def response(url: str, content_type: str, body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{more}\r\n".encode()
    return record("response", url, "application/http; msgtype=response", head + body)


def write_arrow(path: Path, compression: str | None = None, rows=ROWS) -> Path:
    table = pa.Table.from_pylist(rows)
    options = pa.ipc.IpcWriteOptions(compression=compression)
    new = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
    with new(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=8)
    return path


@pytest.mark.parametrize("name", ["a.arrow", "a.arrows", "a.feather"])
@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("chunk", [1, 10**6])
def test_arrow_files_and_streams(tmp_path, monkeypatch, name, compression, chunk, read):
    monkeypatch.setattr(arrow, "CHUNK", chunk)
    found = read({"from": str(write_arrow(tmp_path / name, compression)), "id": "name"})
    assert [doc.text for doc in found] == [row["text"] for row in ROWS] and [doc.id for doc in found] == [row["name"] for row in ROWS]
    assert [doc.meta["path"] for doc in found] == [f"{name}:{i + 1}" for i in range(50)]


def test_arrow_files_that_are_none(tmp_path, refused):
    (tmp_path / "a.arrow").write_bytes(b"ARROW1\0\0" + bytes(64))
    (tmp_path / "b.arrow").write_bytes(b"no arrow at all" * 9)
    write_arrow(tmp_path / "c.arrow", rows=[{"text": 3}])
    assert "Arrow" in refused(str(tmp_path / "a.arrow")) and "Arrow" in refused(str(tmp_path / "b.arrow"))
    assert "holds int64, not text" in refused(str(tmp_path / "c.arrow"))
    assert "has no column 'content'" in refused({"from": str(tmp_path / "c.arrow"), "text": "content"})


def test_front_matter_is_taken_off(tmp_path, read):
    (tmp_path / "a.md").write_text("---\ntitle: Iron\ndate: 2024-01-31\nlicense: CC-BY-4.0\ntags: [a, b]\n---\n\n# Iron\n\ntext\n")
    (tmp_path / "b.md").write_text('+++\ntitle = "Ore"\n+++\n# Ore\n')
    (tmp_path / "c.md").write_text("---\n\nA rule, and no front matter: at all\n")
    a, b, c = read(f"{tmp_path}/*.md")
    assert a.text == "# Iron\n\ntext\n" and a.meta["bytes"] == len(a.text) and a.meta["licence"] == "CC-BY-4.0"
    assert a.meta["front"] == {"title": "Iron", "date": "2024-01-31", "license": "CC-BY-4.0", "tags": ["a", "b"]}
    assert (a.meta["title"], a.meta["date"]) == ("Iron", "2024-01-31") and b.text == "# Ore\n" and b.meta["title"] == "Ore"
    assert c.text.startswith("---\n") and "front" not in c.meta


@pytest.mark.parametrize(
    "front",
    ["a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "a: [", "[" * 5000, "!!python/object/apply:os.system [id]", "- a list", "x: 1" * 20000],
)
def test_front_matter_that_is_none_stays_text(front):
    whole = f"---\n{front}\n---\ntext"
    assert markdown.parted(whole) == ({}, whole)


def test_pages_lose_their_menus(tmp_path, read):
    pytest.importorskip("trafilatura")
    (tmp_path / "a.html").write_bytes(page())
    (tmp_path / "b.htm").write_bytes(page("iso-8859-1"))
    (tmp_path / "c.html.gz").write_bytes(gzip.compress(b"<html><body></body></html>"))
    a, b, c = read(f"{tmp_path}/*")
    for found in (a, b):
        assert "people made iron" in found.text and "Grüße" in found.text and found.meta["title"] == "On furnaces"
        assert "Menu entry" not in found.text and "<" not in found.text and "cookies" not in found.text
    assert isinstance(c, Broken) and c.reason == "no main text" and c.path == "c.html.gz"
    told = sources.fingerprint(sources.open_sources([str(tmp_path / "a.html")]))[0]
    assert told["parser"].startswith("trafilatura "), "another release may read other text"


def test_the_text_layer_of_a_pdf(tmp_path, read):
    pytest.importorskip("pypdfium2")
    (tmp_path / "a.pdf").write_bytes(pdf("Raw iron from ore."))
    (tmp_path / "b.pdf").write_bytes(pdf(""))
    (tmp_path / "c.pdf").write_bytes(b"%PDF-1.4 and nothing else")
    (tmp_path / "d.pdf").write_bytes(pdf("Not for everyone.", LOCKED))
    a, b, c, d = read(f"{tmp_path}/*.pdf")
    assert a.text == "Raw iron from ore." and a.meta["title"] == "On furnaces" and a.meta["date"] == "2024-01-31" and a.meta["pages"] == 1
    assert (b.reason, c.reason, d.reason) == ("no text", "malformed", "encrypted")


@pytest.mark.parametrize("packed", [False, True])
def test_records_of_a_crawl(tmp_path, packed, read):
    for library in ("warcio", "trafilatura", "pypdfium2"):
        pytest.importorskip(library)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(page()), page())
    records = [
        record("warcinfo", "", "application/warc-fields", b"software: x\r\n"),
        record("request", "https://a.org/", "application/http; msgtype=request", b"GET / HTTP/1.1\r\n\r\n"),
        response("https://a.org/1", "text/html", page("iso-8859-1").replace(b"<meta charset='iso-8859-1'>", b""), more=""),
        response("https://a.org/2", "text/html; charset=utf-8", gzip.compress(page()), more="Content-Encoding: gzip\r\n"),
        response("https://b.org/3", "text/html", chunked, more="Transfer-Encoding: chunked\r\n"),
        response("https://b.org/4", "text/html", b"gone", "404 Not Found"),
        response("https://b.org/5", "image/png", b"\x89PNG"),
        response("https://b.org/6", "application/pdf", pdf("Raw iron.")),
        response("https://b.org/7", "text/html", b"x", more="Content-Encoding: br\r\n"),
        record("conversion", "https://c.org/8", "text/plain", "plain text, as it is: é".encode()),
    ]
    path = tmp_path / ("a.warc.gz" if packed else "a.warc")
    path.write_bytes(b"".join(map(gzip.compress, records) if packed else records))
    found = read(str(path))
    docs = {one.meta["url"]: one for one in found if isinstance(one, Doc)}
    assert list(docs) == [f"https://{site}" for site in ("a.org/1", "a.org/2", "b.org/3", "b.org/6", "c.org/8")]
    assert all(one.meta["date"] == "2024-05-06T07:08:09Z" for one in docs.values())
    assert {one.meta["package"] for one in docs.values()} == {"a.org", "b.org", "c.org"}, "pages of one site are not independent"
    assert all("people made iron" in docs[f"https://{site}"].text for site in ("a.org/1", "a.org/2", "b.org/3"))
    assert docs["https://b.org/6"].text == "Raw iron." and docs["https://b.org/6"].meta["published"] == "2024-01-31"
    assert docs["https://c.org/8"].meta["path"] == f"{path.name}#10"
    reasons = {one.path.rpartition("#")[2]: one.reason for one in found if isinstance(one, Broken)}
    assert reasons == {"6": "HTTP status", "7": "other kind", "9": "other encoding"}


MIT = (
    "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\nof this software and associated"
    " documentation files"
)
APACHE = "                                 Apache License\n                           Version 2.0, January 2004\n"
TREE = {
    "LICENSE": MIT.encode(),
    "README.md": b"# Tool\n",
    "src/a.py": b"print(1)\n",
    "src/b.c": b"/* SPDX-License-Identifier: GPL-2.0-only */\nint x;\n",
    "src/wide.py": "é".encode("latin-1"),
    "src/nul.py": b"x\0y",
    "vendored/COPYING": APACHE.encode(),
    "vendored/deep/c.rs": b"fn main() {}\n",
    "logo.png": b"\x89PNG",
    "package-lock.json": b"{}",
    "data.jsonl": b"{}",
    "big.txt": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
}
LEFT_OUT = {"src/wide.py": "other encoding", "src/nul.py": "binary", "logo.png": "binary", "package-lock.json": "generated",
            "data.jsonl": "data file", "big.txt": "LFS pointer", "link.py": "link"}  # fmt: skip


def grow(folder: Path) -> Path:
    for name, data in TREE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    os.symlink("/etc/passwd", folder / "link.py")
    (folder / "node_modules").mkdir()
    (folder / "node_modules/x.js").write_text("x")
    return folder


def demand_tree(found: list, called: str) -> None:
    docs = {one.meta["path"]: one for one in found if isinstance(one, Doc)}
    assert {one.path: one.reason for one in found if isinstance(one, Broken)} == LEFT_OUT
    assert set(docs) == set(TREE) - set(LEFT_OUT)
    told = {name: (one.meta["domain"], one.meta["licence"], one.meta["package"]) for name, one in docs.items()}
    assert told["src/a.py"] == ("python", "MIT", f"{called}/src") and told["README.md"] == ("markdown", "MIT", called)
    assert told["src/b.c"] == ("c", "GPL-2.0-only", f"{called}/src")
    assert told["vendored/deep/c.rs"] == ("rust", "Apache-2.0", f"{called}/vendored")


def test_a_source_tree(tmp_path, read, refused):
    folder = grow(tmp_path / "tool")
    demand_tree(read(str(folder)), "tool")
    chosen = read({"from": str(folder), "include": "*.py, *.md", "exclude": "src/w*"})
    assert [one.meta["path"] for one in chosen if isinstance(one, Doc)] == ["README.md", "src/a.py"]
    opened = sources.open_sources([str(folder)])
    before = sources.fingerprint(opened)
    (folder / "node_modules/x.js").write_text("y")
    assert sources.fingerprint(opened) == before and sources.size(opened) > 0
    (folder / "src/a.py").write_text("print(2)\n")
    assert sources.fingerprint(opened)[0]["sha256"] != before[0]["sha256"]
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/a.jsonl").write_text("{}")
    assert "left out as data file; name them" in refused(str(tmp_path / "rows"))


def git(folder: Path, *arguments: str) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    environment |= {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, env=environment, check=True, text=True)
    return done.stdout.strip()


def test_a_repository_at_a_revision(tmp_path, read, refused):
    folder = grow(tmp_path / "tool")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A", "-f")
    git(folder, "commit", "-q", "-m", "one")
    git(folder, "tag", "v1")
    first = git(folder, "rev-parse", "HEAD")
    (folder / "src/a.py").write_text("print(2)\n")
    git(folder, "commit", "-q", "-am", "two")
    git(tmp_path, "clone", "-q", "--bare", str(folder), "bare.git")
    (folder / "src/a.py").write_text("not committed")
    for address in (f"git+{folder}@v1", f"git+{tmp_path}/bare.git@{first}", {"from": f"git+{folder}", "revision": "v1"}):
        found = read(address)
        demand_tree(found, "bare" if "bare" in str(address) else "tool")
        texts = {one.meta["path"]: one.text for one in found if isinstance(one, Doc)}
        assert texts["src/a.py"] == "print(1)\n" and {one.meta["revision"] for one in found if isinstance(one, Doc)} == {first}
    assert {one.meta["path"]: one for one in read(f"git+{folder}") if isinstance(one, Doc)}["src/a.py"].text == "print(2)\n"
    told = [sources.fingerprint(sources.open_sources([f"git+{place}@v1"]))[0] for place in (folder, tmp_path / "bare.git")]
    assert told[0]["tree"] == told[1]["tree"] and told[0]["commit"] == first
    broken = read(f"git+{folder}@v1", limit=8)
    assert {one.path: one.reason for one in broken if isinstance(one, Broken)}["LICENSE"] == "too long"
    assert "has no revision 'v9'" in refused(f"git+{folder}@v9")
    assert "has no revision '--output=x'" in refused({"from": f"git+{folder}", "revision": "--output=x"})
    assert "is no folder" in refused("git+https://example.org/x.git")


def test_licences_by_their_text():
    gpl = "GNU GENERAL PUBLIC LICENSE\n   Version 3, 29 June 2007"
    assert [kinds.licence_named(text) for text in (MIT, APACHE, gpl, "do what you like")] == ["MIT", "Apache-2.0", "GPL-3.0", kinds.UNKNOWN]
    assert kinds.language("a/Makefile") == "makefile" and kinds.language("x.PY") == "python" and kinds.language("README") == ""


def test_json_meta_of_every_kind(tmp_path, read):
    (tmp_path / "a.md").write_text("---\nwhen: 2024-01-31T10:00:00Z\n---\ntext\n")
    assert json.dumps([one.meta for one in read(str(tmp_path / "a.md"))])


def test_files_of_a_folder_stand_alone_where_that_is_said(tmp_path, read):
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text(f"text of {name}\n")
    assert len({doc.meta["package"] for doc in read(str(tmp_path))}) == 1
    assert sorted(doc.meta["package"] for doc in read({"from": str(tmp_path), "package": "path"})) == ["one.txt", "two.txt"]
