from __future__ import annotations

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.data.shards import Shards, write_shards


def documents(lengths: list[int], vocab: int = 1000) -> list[tuple[dict, np.ndarray]]:
    draw = np.random.default_rng(0)
    return [({"id": f"d{i}", "package": "p", "path": f"{i}.py", "bytes": 3 * n}, draw.integers(0, vocab, n)) for i, n in enumerate(lengths)]


@pytest.mark.parametrize("per_file", [1, 7, 10, 1000])
def test_what_is_written_is_read_across_files(tmp_path, per_file):
    given = documents([5, 1, 20, 3, 10, 11])
    assert write_shards(tmp_path, given, 1000, per_file) == {"documents": 6, "tokens": 50, "bytes": 150}
    shards = Shards(tmp_path)
    assert len(shards) == 6 and shards.total == 50 and shards.dtype == np.uint16
    assert shards.lengths.tolist() == [5, 1, 20, 3, 10, 11] and shards.lengths.dtype == np.int64
    assert shards.bytes.tolist() == [15, 3, 60, 9, 30, 33]
    for i, (_, ids) in enumerate(given):
        assert np.array_equal(shards.document(i), ids)
        assert np.array_equal(shards.piece(i, 2, 7), ids[2:7])
        assert np.array_equal(shards.piece(i, 0, 10**9), ids)
        assert shards.piece(i, 4, 4).size == 0 and shards.piece(i, 99, 100).size == 0
    assert np.array_equal(shards.span(0, 50), np.concatenate([ids for _, ids in given]))
    assert shards.table().column("path").to_pylist()[2] == "2.py"


def test_large_vocabularies_take_four_bytes(tmp_path):
    write_shards(tmp_path, [({"id": "a", "bytes": 1}, np.array([70000]))], 70001)
    assert Shards(tmp_path).dtype == np.uint32 and Shards(tmp_path).document(0).tolist() == [70000]


def test_no_documents_are_valid_shards(tmp_path):
    assert write_shards(tmp_path, [], 1000) == {"documents": 0, "tokens": 0, "bytes": 0}
    shards = Shards(tmp_path)
    assert len(shards) == 0 and shards.total == 0 and shards.span(0, 0).size == 0


def test_bytes_are_the_same_every_time(tmp_path):
    for name in ("a", "b"):
        write_shards(tmp_path / name, documents([4, 9, 2]), 1000, 6)
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_missing_and_damaged_folders(tmp_path):
    with pytest.raises(BadInput, match="holds no token shards"):
        Shards(tmp_path)
    write_shards(tmp_path, documents([4, 9, 2]), 1000, 6)
    (tmp_path / "tokens-00001.npy").unlink()
    with pytest.raises(BadInput, match=r"documents\.parquet counts 15"):
        Shards(tmp_path)
    (tmp_path / "tokens-00000.npy").write_bytes(b"junk")
    with pytest.raises(BadInput, match="is damaged"):
        Shards(tmp_path)
