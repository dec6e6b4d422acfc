"""Sources at addresses of fsspec."""

from __future__ import annotations

import gzip
import http.server
import json
import threading
import zipfile
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.data import sources
from bloomery.data.read import places

fsspec = pytest.importorskip("fsspec")
ROWS = [{"text": f"document {i} naïve 日本"} for i in range(50)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.fixture
def memory():
    """fsspec's file system in memory, empty again afterwards."""
    held = fsspec.filesystem("memory")
    yield held
    held.store.clear()
    held.pseudo_dirs[:] = [""]


@pytest.mark.parametrize("chunk", [100, 10**6])
def test_globs_and_every_reader_work_on_any_file_system(tmp_path, monkeypatch, memory, chunk, read, refused):
    from bloomery.data.read import jsonl

    monkeypatch.setattr(jsonl, "CHUNK", chunk)
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as out, pa.ipc.new_file(out, pa.schema([("text", pa.string())])) as writer:
        writer.write_table(pa.Table.from_pylist(ROWS))
    table = "text\n" + "".join(row["text"] + "\n" for row in ROWS)
    for name, data in {
        "x/deep/a.jsonl": LINES,
        "x/a.jsonl.gz": gzip.compress(LINES),
        "x/a.csv": table.encode(),
        "x/a.parquet": (tmp_path / "a.parquet").read_bytes(),
        "x/a.arrow": (tmp_path / "a.arrow").read_bytes(),
    }.items():
        memory.pipe(f"/bucket/{name}", data)
        found = read(f"memory://bucket/{name}")
        assert [doc.text for doc in found] == [row["text"] for row in ROWS], name
    globbed = read("memory://bucket/**/*.jsonl*")
    assert sorted({doc.meta["path"].split(":")[0] for doc in globbed}) == ["x/a.jsonl.gz", "x/deep/a.jsonl"] and len(globbed) == 100
    opened = sources.open_sources(["memory://bucket/x/deep/*.jsonl"])
    before = sources.fingerprint(opened)
    assert before[0]["bytes"] == len(LINES) == sources.size(opened)
    memory.pipe("/bucket/x/deep/a.jsonl", LINES[:-1] + b" ")
    assert sources.fingerprint(opened) != before
    assert "does not exist" in refused("memory://bucket/none.jsonl") and "matches no file" in refused("memory://bucket/*.none")
    assert "is a folder; name the files" in refused("memory://bucket/x")


def test_members_of_an_archive(tmp_path, read):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        for name in ("one.jsonl", "in/two.jsonl"):
            made.writestr(name, LINES)
    found = read(f"zip://**/*.jsonl::file://{tmp_path}/a.zip")
    assert len(found) == 100 and {doc.meta["path"].split(":")[0] for doc in found} == {"in/two.jsonl", "one.jsonl"}
    assert [doc.text for doc in read(f"file://{tmp_path}/a.zip".replace("file://", "zip://one.jsonl::"))] == [row["text"] for row in ROWS]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *given) -> None:
        pass


def test_a_web_server_that_only_streams(tmp_path, read, refused):
    pytest.importorskip("aiohttp")
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES))
    long = [{"text": letter * 999_999} for letter in "abcdef"]  # more than the first block of a request
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long))
    pq.write_table(pa.Table.from_pylist(long), tmp_path / "a.parquet", compression="none", use_dictionary=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        at = f"http://127.0.0.1:{server.server_port}"
        for name in ("a.jsonl", "a.jsonl.gz"):
            assert [doc.text for doc in read(f"{at}/{name}")] == [row["text"] for row in ROWS]
        assert [doc.text for doc in read(f"{at}/long.jsonl")] == [row["text"] for row in long]
        assert "cannot give parts of a file" in refused(f"{at}/a.parquet")
        assert "does not exist" in refused(f"{at}/none.jsonl")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "address",
    [
        "https://someone:hunter2@host/a.jsonl",
        "s3://AKIA:hunter2@bucket/a.jsonl",
        "https://host/a.jsonl?X-Amz-Signature=hunter2",
        "https://host/a.jsonl?sv=1&sig=hunter2",
        "zip://*.jsonl::https://host/a.zip?access_token=hunter2",
    ],
)
def test_an_address_with_a_secret_is_refused_and_not_repeated(address, refused):
    said = refused(address)
    assert "put credentials into the environment" in said and "hunter2" not in said


def test_what_a_library_says_is_told_without_secrets():
    cause = ValueError("403 for https://user:hunter2@host/a?X-Amz-Credential=hunter2&b=1 (retry)\nmore")
    assert places.quiet(cause) == "403 for https://…@host/a?… (retry)"
