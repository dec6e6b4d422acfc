from __future__ import annotations

import csv
import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bloomery.core.errors import BadInput
from bloomery.data import sources
from bloomery.data.documents import Broken
from bloomery.seams import Doc

LIMIT = 1_000_000
ROWS = [{"text": f"document {i} naïve 日本", "name": f"n{i}", "group": f"g{i % 3}", "other": i} for i in range(50)]


def write_jsonl(path: Path, rows=ROWS) -> Path:
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if path.suffix == ".gz":
        half = len(data) // 2  # two members in one file, as appending makes them
        data = gzip.compress(data[:half]) + gzip.compress(data[half:])
    elif path.suffix == ".zst":
        import pyarrow as pa

        half = len(data) // 2
        data = b"".join(pa.Codec("zstd").compress(part, asbytes=True) for part in (data[:half], data[half:]))
    path.write_bytes(data)
    return path


def write_csv(path: Path, rows=ROWS, encoding: str = "utf-8") -> Path:
    with open(path, "w", encoding=encoding, newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows=ROWS) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=20)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.jsonl.zst", "a.csv", "a.tsv", "a.parquet"])
def test_every_table_format_gives_the_same_documents(tmp_path, name, read):
    write = write_parquet if "parquet" in name else write_csv if name.endswith("sv") else write_jsonl
    path = write(tmp_path / name)
    found = read({"from": str(path), "id": "name", "package": "group", "licence": "MIT"})
    assert [doc.text for doc in found] == [row["text"] for row in ROWS]
    assert [doc.id for doc in found] == [row["name"] for row in ROWS]
    assert [doc.meta["package"] for doc in found] == [row["group"] for row in ROWS]
    assert {doc.meta["licence"] for doc in found} == {"MIT"} and {doc.meta["source"] for doc in found} == {str(path)}
    assert all(doc.meta["bytes"] == len(doc.text.encode()) for doc in found)
    plain = read(str(path))
    assert len({doc.id for doc in plain}) == len(ROWS)
    assert len({doc.meta["package"] for doc in plain}) == len(ROWS)  # without a group every document stands alone
    assert str(tmp_path) not in str([(doc.id, doc.meta["path"], doc.meta["package"]) for doc in plain])


@pytest.mark.parametrize("chunk", [1, 40, 100, 10**6])
def test_jsonl_chunks_lose_nothing_and_know_their_lines(tmp_path, monkeypatch, chunk, read):
    from bloomery.data.read import jsonl

    monkeypatch.setattr(jsonl, "CHUNK", chunk)
    path = write_jsonl(tmp_path / "a.jsonl")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\n\n", 5).rstrip(b"\n"))
    found = read(str(path))
    assert [doc.text for doc in found] == [row["text"] for row in ROWS]
    lines = path.read_text(encoding="utf-8-sig").split("\n")
    for doc in found:
        assert json.loads(lines[int(doc.meta["path"].split(":")[1]) - 1])["text"] == doc.text


@pytest.mark.parametrize("chunk", [1, 300, 10**6])
def test_parquet_chunks_lose_nothing(tmp_path, monkeypatch, chunk, read):
    from bloomery.data.read import parquet

    monkeypatch.setattr(parquet, "CHUNK", chunk)
    found = read(str(write_parquet(tmp_path / "a.parquet")))
    assert [doc.text for doc in found] == [row["text"] for row in ROWS]
    assert [doc.meta["path"] for doc in found] == [f"a.parquet:{i + 1}" for i in range(50)]


def test_text_files_of_a_glob(tmp_path, read):
    for name in ("pkg/a.txt", "pkg/deep/b.txt", "c.txt", "d.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    found = read(f"{tmp_path}/**/*.txt")
    assert [(doc.meta["path"], doc.meta["package"]) for doc in found] == [
        ("c.txt", "c.txt"),
        ("pkg/a.txt", "pkg"),
        ("pkg/deep/b.txt", "pkg"),
    ]
    mixed = sources.open_sources([f"{tmp_path}/c.txt", {"from": str(write_jsonl(tmp_path / "x.jsonl")), "format": "text"}])
    assert [source.reader for source in mixed] == ["text", "text"]


def test_bad_documents_are_dropped_with_their_place(tmp_path, read):
    path = tmp_path / "a.jsonl"
    good = json.dumps({"text": "good"}).encode()
    path.write_bytes(
        b"\n".join(
            [
                '{"text": "déjà vu"}'.encode(),
                b"{broken",
                b"[1, 2]",
                b'{"other": 1}',
                b'{"text": null}',
                b'{"text": 7}',
                b'{"text": "\\ud800"}',
                b'{"text": "\xff"}',
                b"[" * 100000,
                good + b" trailing",
                good,
            ]
        )
    )
    found = read(str(path))
    assert [one.text for one in found if isinstance(one, Doc)] == ["déjà vu", "good"]
    broken = {one.path: one for one in found if isinstance(one, Broken)}
    assert list(broken) == [f"a.jsonl:{i}" for i in range(2, 11)]
    assert {one.reason for one in broken.values()} == {"malformed"} and all(one.note and one.bytes for one in broken.values())
    assert (
        "no column 'text'" in broken["a.jsonl:4"].note
        and "holds null" in broken["a.jsonl:5"].note
        and "surrogate" in broken["a.jsonl:7"].note
    )


def test_a_line_of_fifty_megabytes_is_never_held_whole(tmp_path, read):
    import tracemalloc

    path = tmp_path / "a.jsonl"
    with open(path, "wb") as handle:
        handle.write(b'{"text": "before"}\n{"text": "')
        for _ in range(50):
            handle.write(b"x" * 1_000_000)
        handle.write(b'"}\n{"text": "after"}\n')
    tracemalloc.start()
    found = read(str(path), limit=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [getattr(one, "text", getattr(one, "reason", "")) for one in found] == ["before", "too long", "after"]
    assert found[1].path == "a.jsonl:2" and found[1].bytes == 50_000_013 and found[2].meta["path"] == "a.jsonl:3"
    assert peak < 20e6


def test_escapes_do_not_make_a_document_too_long(tmp_path, read):
    texts = ["\u0430" * 2000, "\U0001f600" * 1000, "a" * 4096, "a" * 4097]
    rows = ["".join(f"\\u{int.from_bytes(unit, 'big'):04x}" for unit in pairs(text)) for text in texts]
    (tmp_path / "a.jsonl").write_text("".join(f'{{"text": "{row}", "more": "{"x" * 60000}"}}\n' for row in rows))
    found = read(str(tmp_path / "a.jsonl"), limit=4096)
    assert [getattr(one, "text", getattr(one, "reason", "")) for one in found] == [*texts[:3], "too long"]


def pairs(text: str) -> list[bytes]:
    """UTF-16 code units, which is what JSON escapes name."""
    wide = text.encode("utf-16-be")
    return [wide[i : i + 2] for i in range(0, len(wide), 2)]


def test_long_documents_of_every_kind(tmp_path, read):
    rows = [{"text": "ok"}, {"text": "x" * 5000}, {"text": "é" * 3000}]
    (tmp_path / "a.txt").write_text("x" * 5000)
    for path in (
        write_jsonl(tmp_path / "a.jsonl"),
        write_csv(tmp_path / "a.csv", rows),
        write_parquet(tmp_path / "a.parquet", rows),
        tmp_path / "a.txt",
    ):
        if path.suffix == ".jsonl":
            write_jsonl(path, rows)
        found = read(str(path), limit=4096)
        assert [one.reason for one in found if isinstance(one, Broken)] == ["too long"] * (1 if path.suffix == ".txt" else 2)


def test_csv_rows_that_are_none(tmp_path, read):
    (tmp_path / "a.csv").write_bytes(b'text,b\n"quoted, ""text""\nover lines",1\n\nonly one field\na,b,c\n\xff,2\nl\xc3\xa4st,3\n')
    found = read(str(tmp_path / "a.csv"))
    assert [one.text for one in found if isinstance(one, Doc)] == ['quoted, "text"\nover lines', "läst"]
    assert [one.path for one in found if isinstance(one, Broken)] == ["a.csv:5", "a.csv:6", "a.csv:7"]


def test_whole_files_that_cannot_be_read(tmp_path, read, refused):
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes("naïve".encode("latin-1"))
    (tmp_path / "wide.txt").write_bytes("text".encode("utf-16"))
    (tmp_path / "junk.txt").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "nul.txt").write_bytes(b"text\0text")
    (tmp_path / "latin.jsonl").write_bytes('{"text": "naïve"}\n'.encode("latin-1"))
    (tmp_path / "none.jsonl").write_text("not json\nat all\n")
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "a.jsonl.gz").write_bytes(b"not gzip")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "junk.jsonl").write_bytes(bytes(range(256)) * 10)
    (tmp_path / "latin.csv").write_bytes("text\nnaïve\n".encode("latin-1"))
    for name, said in {
        "missing.txt": "does not exist; check the path",
        "*.none": "matches no file",
        "empty.txt": "is empty",
        "empty.jsonl": "is empty",
        "latin.txt": "is not UTF-8 (byte 2); say `encoding: latin-1`",
        "wide.txt": "say `encoding: utf-16`",
        "junk.txt": "is binary",
        "nul.txt": "is binary (a NUL character at character 4)",
        "latin.jsonl": "say `encoding: latin-1`",
        "junk.jsonl": "is binary",
        "none.jsonl": "holds no JSON object",
        "a.json": "make it .jsonl",
        "a.jsonl.gz": "is not a gzip file",
        "a.parquet": "is not a Parquet file",
        "latin.csv": "say `encoding: latin-1`",
        "*.txt": "or say `broken: drop`",
    }.items():
        assert said in refused(f"{tmp_path}/{name}"), name
    assert read({"from": f"{tmp_path}/latin.txt", "encoding": "latin-1"})[0].text == "naïve"
    assert read({"from": f"{tmp_path}/wide.txt", "encoding": "utf-16"})[0].text == "text"
    assert read({"from": f"{tmp_path}/latin.jsonl", "encoding": "latin-1"})[0].text == "naïve"
    wide = write_csv(tmp_path / "wide.csv", encoding="utf-16")
    assert [one.text for one in read({"from": str(wide), "encoding": "utf-16"})] == [row["text"] for row in ROWS]
    assert "say `encoding: utf-16`" in refused(str(wide))
    assert "cannot be utf-16" in refused({"from": f"{tmp_path}/latin.jsonl", "encoding": "utf-16"})
    assert "is binary" in refused({"from": f"{tmp_path}/junk.txt", "broken": "drop"})  # nothing would be left
    (tmp_path / "fine.txt").write_text("fine")
    found = read({"from": f"{tmp_path}/*.txt", "broken": "drop"})
    assert sorted(one.reason for one in found if isinstance(one, Broken)) == ["binary", "binary", "other encoding"]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.csv.gz", "a.parquet", "wide.csv"])
def test_damage_in_the_middle_of_a_file_is_one_sentence(tmp_path, name):
    path, draw = tmp_path / name, random.Random(0)
    rows = [{"text": draw.randbytes(500).hex()} for _ in range(3000)]
    options = {"from": str(path)}
    if name == "wide.csv":
        write_csv(path, rows, "utf-16")
        options["encoding"] = "utf-16"
    elif name == "a.csv.gz":
        path.write_bytes(gzip.compress(write_csv(tmp_path / "a.csv", rows).read_bytes()))
        options["format"] = "csv"
    else:
        (write_parquet if "parquet" in name else write_jsonl)(path, rows)
    data = path.read_bytes()
    middle = 3 * len(data) // 4
    path.write_bytes(data[:middle] + bytes(50_000) + data[middle + 50_000 :] if "parquet" in name else data[: middle | 1])
    opened = sources.open_sources([options])
    sources.check(opened)
    with pytest.raises(BadInput) as caught:
        [found for task in sources.tasks(opened, LIMIT) for found in sources.read(task)]
    said = str(caught.value)
    assert said.startswith(str(path)) and "; " in said and "\n" not in said and ("is damaged" in said or "to its end" in said)


@pytest.mark.parametrize(
    ("encoding", "bad", "said"),
    [
        ("utf-8", b"\xff", "is not UTF-8 (byte 300000); say `encoding: latin-1`"),
        ("utf-8", b"text\0", "is binary (a NUL character at character 200004)"),
        ("utf-8", b"\xc3", "is not UTF-8 (byte 300000)"),
        ("utf-16-le", "text".encode("utf-16-le") + b"x", "is not UTF-16-LE (byte 400008)"),
    ],
)
def test_text_is_read_to_its_end_before_work(tmp_path, encoding, bad, said, read, refused):
    path = tmp_path / "a.txt"
    path.write_bytes("éa".encode(encoding) * 100_000 + bad)
    assert said in refused({"from": str(path), "encoding": encoding})
    (tmp_path / "b.txt").write_text("fine", encoding=encoding)
    found = read({"from": f"{tmp_path}/*.txt", "encoding": encoding, "broken": "drop"})
    assert [one.text for one in found if isinstance(one, Doc) and "\0" not in one.text] == ["fine"]
    (tmp_path / "a.txt").write_text("日本語" * 200_000, encoding="utf-8")
    assert read(str(tmp_path / "a.txt"))[:1]  # characters that the blocks cut are whole again


def test_a_damaged_compressed_text_stops_or_is_dropped(tmp_path, read, refused):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(random.Random(0).randbytes(100_000).hex().encode())[:-9])
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(b"fine"))
    assert "is damaged" in refused({"from": f"{tmp_path}/*.gz", "format": "text"})
    found = read({"from": f"{tmp_path}/*.gz", "format": "text", "broken": "drop"})
    assert found[0].reason == "unreadable" and "is damaged" in found[0].note and found[1].text == "fine"


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_column_may_give_the_path(tmp_path, name, read, refused):
    path = {"a.jsonl": write_jsonl, "a.csv": write_csv, "a.parquet": write_parquet}[name](tmp_path / name)
    assert [one.meta["path"] for one in read({"from": str(path), "path": "name"})] == [row["name"] for row in ROWS]
    assert all(one.meta["path"].startswith(f"{name}:") for one in read(str(path)))
    assert "say `path: NAME`" in refused({"from": str(path), "path": "nowhere"})


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
def test_a_missing_column_names_those_there_are(tmp_path, name, refused):
    path = {"a.jsonl": write_jsonl, "a.csv": write_csv, "a.parquet": write_parquet}[name](tmp_path / name)
    assert "has no column 'content'; it has text, name, group, other; say `text: NAME`" in refused({"from": str(path), "text": "content"})
    assert "say `package: NAME`" in refused({"from": str(path), "package": "repo"})


def test_a_column_that_stands_twice_is_refused(tmp_path, refused):
    """Which of them would be the text?"""
    (tmp_path / "a.csv").write_text("text,text\none,two\n")
    table = pa.Table.from_arrays([pa.array(["one"]), pa.array(["two"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    for ending in ("csv", "parquet", "arrow"):
        assert f"a.{ending} has 2 columns 'text'; give each a name of its own" in refused(str(tmp_path / f"a.{ending}"))


def test_addresses_and_options_that_are_wrong(tmp_path, refused):
    write_jsonl(tmp_path / "a.jsonl")
    at = f"{tmp_path}/a.jsonl"
    for given, said in [
        ({"text": "x"}, "needs `from: ADDRESS`"),
        (7, "is not an address"),
        ("", "is not an address"),
        ({"from": at, "txt": "x"}, "did you mean text"),
        ({"from": at, "encoding": "utf-9"}, "unknown encoding 'utf-9'"),
        ({"from": at, "format": "jsn"}, "format 'jsn'"),
        ({"from": at, "broken": "maybe"}, "must be stop or drop"),
        ({"from": at, "limit": "many"}, "limit must be of type int"),
        ("nowhere://bucket/a.jsonl", "cannot be reached (Protocol not known: nowhere)"),
        ({"from": at, "seconds": 0.5}, "seconds must be at least 1"),
        ({"from": at, "memory": "lots"}, "is not a size"),
        ({"from": at, "limit": True}, "limit must be of type int"),
        ({"from": f"{tmp_path}/none", "format": "tree"}, "is no folder"),
        ({"from": str(tmp_path), "format": "jsonl"}, "is a folder; name the files"),
        ("python://json", "takes no path"),
        ("hf://", "needs the name"),
        ({"from": "python://", "size": "lots"}, "is not a size"),
        ({"from": "python://", "share": 2}, "share must be"),
    ]:
        assert said in refused(given)
    for given in ([], "a.jsonl", None):
        with pytest.raises(BadInput, match="give a list"):
            sources.open_sources(given)


def test_fingerprints_follow_content_and_not_the_machine(tmp_path):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        write_jsonl(tmp_path / folder / "a.jsonl")
    seen = [sources.fingerprint(sources.open_sources([f"{tmp_path}/{folder}/*.jsonl"]))[0] for folder in ("here", "there")]
    assert seen[0]["sha256"] == seen[1]["sha256"] and seen[0]["files"] == 1 and json.dumps(seen)
    (tmp_path / "there" / "a.jsonl").write_text('{"text": "other"}')
    assert sources.fingerprint(sources.open_sources([f"{tmp_path}/there/*.jsonl"]))[0]["sha256"] != seen[0]["sha256"]
    assert sources.size(sources.open_sources([f"{tmp_path}/there/*.jsonl"])) == 17
