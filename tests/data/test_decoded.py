from __future__ import annotations

import numpy as np
import pytest

from bloomery.data.decoded import Decoded
from bloomery.data.shards import Shards, write_shards
from bloomery.data.tokenizer import Tokenizer, learn


def test_documents_come_back_as_text(tmp_path):
    texts = ["def f(x):\n    return x\n", "naïve 🙂", ""]
    tokenizer: Tokenizer = learn(["abc abd " * 50], 264)
    rows = [
        ({"id": f"d{i}", "bytes": len(text.encode())}, np.array([tokenizer.bos, *tokenizer.encode(text), tokenizer.eos]))
        for i, text in enumerate(texts)
    ]
    write_shards(tmp_path, rows, tokenizer.vocab)
    docs = Decoded(Shards(tmp_path), tokenizer)
    assert [doc.text for doc in docs] == texts and [doc.id for doc in docs] == ["d0", "d1", "d2"]
    assert docs[-2].text == texts[1]
    with pytest.raises(IndexError):
        docs[3]
