"""Documents that are made to break a pipeline: each is quarantined with its reason, within bounded memory."""

from __future__ import annotations

import gzip
import io
import json
import resource
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core.errors import BadInput
from bloomery.data import sources
from bloomery.data.documents import Broken
from bloomery.data.read import files, pages, parquet
from bloomery.seams import Doc

LIMIT = 1_000_000
SPARSE = 64_000_000
HELD = 24_000_000  # bytes that reading may hold at once


def told(found: list) -> list[str]:
    return [one.text if isinstance(one, Doc) else one.reason for one in found]


def sparse(path: Path, begin: bytes, size: int, end: bytes) -> Path:
    """A file with a hole of NUL bytes, which takes no room on the disk."""
    with open(path, "wb") as handle:
        handle.write(begin)
        handle.seek(size, io.SEEK_CUR)
        handle.write(end)
    return path


@pytest.fixture
def measured(read):
    """`measured(source)`: what is read, and the most bytes that Python held."""

    def measuring(*given) -> tuple[list, int]:
        tracemalloc.start()
        try:
            return read(*given), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    return measuring


def test_a_huge_line_of_jsonl_is_skipped(tmp_path, measured):
    path = sparse(tmp_path / "a.jsonl", b'{"text": "before"}\n{"text": "', SPARSE, b'"}\n{"text": "after"}\n')
    found, peak = measured(str(path))
    assert told(found) == ["before", "too long", "after"] and found[1].bytes == SPARSE + 13 and peak < HELD


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_huge_line_in_a_compressed_stream_is_skipped(tmp_path, kind, measured):
    path = tmp_path / f"a.jsonl.{kind}"
    with pa.output_stream(str(path), compression={"gz": "gzip", "zst": "zstd"}[kind]) as stream:
        stream.write(b'{"text": "before"}\n{"text": "')
        for _ in range(SPARSE // 1_000_000):
            stream.write(b"x" * 1_000_000)
        stream.write(b'"}\n{"text": "after"}\n')
    found, peak = measured(str(path))
    assert told(found) == ["before", "too long", "after"] and peak < HELD


@pytest.mark.parametrize("begin", [b'text,b\nbefore,1\n"', b"text,b\nbefore,1\n", b'text,b\nbefore,1\n"x\n', b'text,b\nbefore,1\na,"'])
def test_a_huge_row_of_csv_is_skipped(tmp_path, begin, measured):
    end = b'",2\nafter,3\n' if begin.count(b'"') else b",2\nafter,3\n"
    path = sparse(tmp_path / "a.csv", begin, SPARSE, end)
    found, peak = measured(str(path))
    assert told(found) == ["before", "too long", "after"] and found[1].bytes > SPARSE and peak < HELD
    assert found[2].meta["path"] == f"a.csv:{path.read_bytes().count(bytes([10]))}"


def test_a_quote_that_is_never_closed_ends_the_file_and_nothing_else(tmp_path, measured):
    rows = "".join(f"looks,like,a,row,{i}\n" for i in range(400_000))
    (tmp_path / "a.csv").write_text('text,b\nbefore,1\n"' + rows)
    found, peak = measured(str(tmp_path / "a.csv"))
    assert told(found) == ["before", "too long"] and "a quote not closed" in found[1].note and peak < HELD


@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_a_huge_file_is_one_document_that_is_too_long(tmp_path, name, measured):
    path = sparse(tmp_path / name, b"x", SPARSE, b"x")
    (tmp_path / f"b{path.suffix}").write_text("fine")
    found, peak = measured({"from": f"{tmp_path}/*{path.suffix}", "broken": "drop"})
    assert told(found) == ["too long", "fine"] or told(found) == ["fine"]  # a file of NULs alone may be refused by its head
    assert peak < HELD


def test_zip_bombs_of_text(tmp_path, measured):
    bomb = b"".join(gzip.compress(b"x" * 8_000_000) for _ in range(8))
    (tmp_path / "a.txt.gz").write_bytes(bomb)
    (tmp_path / "b.html.gz").write_bytes(bomb)
    found, peak = measured({"from": f"{tmp_path}/*", "broken": "drop"})
    assert told(found) == ["too long", "too long"] and peak < HELD


def test_a_stream_that_unpacks_without_bound_is_a_bomb(tmp_path, monkeypatch, read):
    monkeypatch.setattr(files, "SOUND", 20_000_000)
    path = tmp_path / "a.jsonl.zst"
    line = json.dumps({"text": "x" * 900_000}).encode() + b"\n"
    path.write_bytes(pa.Codec("zstd").compress(line * 60, asbytes=True))
    assert 54e6 / path.stat().st_size > files.GROWTH
    found = read(str(path))
    assert 15 < len(found) < 40 and isinstance(found[-1], Broken) and found[-1].reason == "bomb"
    assert "more than 1100 times its size" in found[-1].note and all(isinstance(one, Doc) for one in found[:-1])


def write_bomb(path: Path, size: int, **options) -> Path:
    table = pa.table({"text": pa.array(["x" * size, "after"], pa.large_string())})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, row_group_size=2, **options)
    return path


def test_a_page_of_parquet_that_is_a_bomb_is_never_unpacked(tmp_path, monkeypatch, read):
    monkeypatch.setattr(parquet, "LARGE", 4_000_000)
    path = write_bomb(tmp_path / "a.parquet", 30_000_000)
    assert path.stat().st_size < 100_000
    before = pa.total_allocated_bytes()
    monkeypatch.setattr(parquet, "_batches", lambda *given: pytest.fail("the row group was decoded"))
    (one, *others) = read(str(path))
    assert (
        one.reason == "bomb" and "unpacks to 30" in one.note and one.path == "a.parquet:1-1" and pa.total_allocated_bytes() - before < 1e6
    )
    assert [two.reason for two in others] == ["bomb"]


def test_a_large_value_repeated_a_million_times_is_kept_once(tmp_path, monkeypatch, read):
    big = "y" * 900_000
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 600, pa.int32()), pa.array([big]))
    pq.write_table(pa.table({"text": rows}), tmp_path / "a.parquet", dictionary_pagesize_limit=4_000_000, row_group_size=600)
    monkeypatch.setattr(parquet, "LARGE", 1_000_000)
    opened = sources.open_sources([str(tmp_path / "a.parquet")])
    sources.check(opened)
    assert parquet.looked(str(tmp_path / "a.parquet"), 0, ("text",))[1] >= 900_000
    tracemalloc.start()
    count = sum(1 for task in sources.tasks(opened, LIMIT) for one in sources.read(task) if one.text == big)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 600 and peak < 3 * 32_000_000 + HELD, "540 MB in all"


def test_page_headers_say_what_arrow_says(tmp_path):
    table = pa.table({"text": [f"row {i} " * (i % 50) for i in range(5000)], "more": list(range(5000))})
    for options in ({}, {"use_dictionary": False}, {"data_page_version": "2.0"}, {"compression": "none", "data_page_size": 4096}):
        path = tmp_path / "a.parquet"
        pq.write_table(table, path, **options)
        metadata = pq.ParquetFile(path).metadata
        with open(path, "rb") as handle:
            for i in range(2):
                chunk = metadata.row_group(0).column(i)
                start = min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset)
                seen = list(pages.pages(handle, start, chunk.total_compressed_size, str(path)))
                headers = chunk.total_compressed_size - sum(packed for _, _, packed in seen)
                assert 0 < headers == chunk.total_uncompressed_size - sum(unpacked for _, unpacked, _ in seen)
    with pytest.raises(BadInput, match="is damaged"):
        list(pages.pages(io.BytesIO(b"\x15" * 300), 0, 300, "a.parquet"))


def test_an_arrow_batch_that_is_a_bomb_is_never_unpacked(tmp_path, monkeypatch, read):
    from bloomery.data.read import arrow

    monkeypatch.setattr(arrow, "LARGE", 4_000_000)
    for ending, new in ((".arrow", pa.ipc.new_file), (".arrows", pa.ipc.new_stream)):
        table = pa.table({"text": ["before"]})
        with new(str(tmp_path / f"a{ending}"), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_table(table)
            writer.write_table(pa.table({"text": ["x" * 30_000_000]}))
            writer.write_table(pa.table({"text": ["after"]}))
        found = read(str(tmp_path / f"a{ending}"))
        assert told(found) == ["before", "bomb"] and "unpacks to 30" in found[1].note


@pytest.mark.parametrize("where", ["body", "packed body", "http headers", "record headers"])
def test_poisoned_records_of_a_crawl(tmp_path, where, measured):
    for library in ("warcio", "trafilatura", "pypdfium2"):
        pytest.importorskip(library)
    big = b"x" * 30_000_000
    plain = (
        "WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: https://a.org/{}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{}\r\n"
    )

    def response(more: bytes, body: bytes) -> bytes:
        whole = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + more + b"\r\n" + body
        head = "WARC/1.0\r\nWARC-Type: response\r\nContent-Type: application/http; msgtype=response\r\nContent-Length: {}\r\n\r\n"
        return head.format(len(whole)).encode() + whole + b"\r\n\r\n"

    bad = {
        "body": response(b"", big),
        "packed body": response(b"Content-Encoding: gzip\r\n", gzip.compress(4 * big)),
        "http headers": response(b"X: " + big + b"\r\n", b"short"),
        "record headers": plain.format("bad", 1, "X: ").encode()[:-2] + big + b"\r\n\r\nx\r\n\r\n",
    }[where]
    good = [plain.format(i, 4, "").encode() + b"fine" + b"\r\n\r\n" for i in range(2)]
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(good[0]) + gzip.compress(bad) + gzip.compress(good[1]))
    found, peak = measured(str(tmp_path / "a.warc.gz"))
    reason = "malformed" if "headers" in where else "too long"
    assert told(found) == ["fine", reason] + ["fine"] * (where != "record headers") and peak < 100_000_000  # 120 MB unpacked
    if where == "record headers":
        assert "the rest of the file is not read" in found[1].note


def test_values_without_end_in_a_line(tmp_path, measured):
    from bloomery.data.read import jsonl

    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n{"text": "b", "x": [' + "[]," * (jsonl.MANY // 2) + "[]]}\n" + '{"text": "c"}\n')
    opened = sources.open_sources([str(tmp_path / "a.jsonl")])
    sources.check(opened)
    tracemalloc.start()
    found = [one for task in sources.tasks(opened, 10 * LIMIT) for one in sources.read(task)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert told(found) == ["a", "malformed", "c"] and peak < 100_000_000  # 120 MB unpacked


def test_a_file_that_breaks_off_is_dropped_where_the_source_says_so(tmp_path, read):
    data = gzip.compress("".join(json.dumps({"text": f"row {i}", "x": i * 7919 % 10007}) + "\n" for i in range(50_000)).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(data[: len(data) // 2])
    with pytest.raises(BadInput, match="is damaged"):
        read(str(tmp_path / "a.jsonl.gz"))
    found = read({"from": str(tmp_path / "a.jsonl.gz"), "broken": "drop"})
    assert found[-1].reason == "unreadable" and "nothing after this place" in found[-1].note and found[0].text == "row 0"


@pytest.mark.wide
def test_a_line_of_two_gigabytes_is_skipped(tmp_path, read):
    """At its true size; what Python holds meanwhile is measured on a smaller one."""
    path = sparse(tmp_path / "a.jsonl", b'{"text": "before"}\n{"text": "', 2_000_000_000, b'"}\n{"text": "after"}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert told(read(str(path))) == ["before", "too long", "after"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes"
