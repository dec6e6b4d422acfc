"""What a corpus file holds is counted as a whole table would count it, whatever its groups."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bloomery.data.written import repeated_ids, written


def table(ids, packages, texts):
    return pa.table({"id": ids, "package": packages, "text": pa.array(texts, pa.string())})


def test_sizes_packages_and_ids_are_those_of_the_table(tmp_path):
    texts = ["aé", "", "three words here", "x" * 1000, "five"]
    whole = table([f"d{k}" for k in range(5)], ["p", "q", "p", "r", "p"], texts)
    pq.write_table(whole, tmp_path / "a.parquet", row_group_size=2)
    found = written(tmp_path / "a.parquet")
    assert (found.documents, found.bytes, found.packages) == (5, sum(len(one.encode()) for one in texts), {"p", "q", "r"})
    assert found.marks.shape == (5, 2) and len(np.unique(found.marks, axis=0)) == 5 and repeated_ids([found]) == 0


def test_ids_are_found_again_within_and_across_files(tmp_path):
    for name, ids in (("a", ["x", "y", "x"]), ("b", ["z", "y", "x"]), ("c", [])):
        packages = pa.array(["p"] * len(ids), pa.string())
        pq.write_table(table(pa.array(ids, pa.string()), packages, [""] * len(ids)), tmp_path / f"{name}.parquet")
    files = [written(tmp_path / f"{name}.parquet") for name in "abc"]
    assert repeated_ids(files[:1]) == 1 and repeated_ids(files) == 3 and repeated_ids(files[2:]) == 0 and repeated_ids(files[1:]) == 0
