from __future__ import annotations

import json
import random

import numpy as np
import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.signal.chinesewebtext2 import Chinesewebtext2
from bloomery.seams import Doc

KINDS = {"law": "法院判决合同原告被告条款", "medicine": "医院医生病人药物治疗症状", "news": "记者报道日前举行会议消息"}
MARKS = {"good": "河水村庄老人孩子", "bad": "点击登录优惠下载", "toxic": "滚蛋混账该死废物", "benign": "谢谢你好欢迎请坐"}
BOTH = "的了在是我有和就不人"


def made(letters: str, seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices(letters + BOTH, k=60)) for _ in range(count)]


@pytest.fixture
def method(tmp_path):
    knobs = {}
    for name, letters in MARKS.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in made(letters, 1, 30)))
        knobs[name] = str(tmp_path / f"{name}.jsonl")
    rows = [{"text": text, "label": name} for name, letters in KINDS.items() for text in made(letters, 1, 30)]
    (tmp_path / "domains.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Chinesewebtext2(**knobs, domains=tuple(KINDS), labelled=str(tmp_path / "domains.jsonl"), buckets=8192)


def test_exact_labels_of_unseen_documents(method):
    docs = [Doc("", text) for letters in (*KINDS.values(), *MARKS.values()) for text in made(letters, 2, 10)]
    found = method.columns(docs, None)
    assert found["likeliest"][:30].tolist() == [0.0] * 10 + [1.0] * 10 + [2.0] * 10
    for k, name in enumerate(KINDS):
        scores = found[f"domain_{name}"][:30].reshape(3, 10)
        assert scores[k].min() > 0.7 and np.delete(scores, k, 0).max() < 0.4
    quality, toxicity = (found[name][30:].reshape(4, 10) for name in ("quality", "toxicity"))
    assert quality[0].min() > 0.8 and quality[1].max() < 0.2 and toxicity[2].min() > 0.8 and toxicity[3].max() < 0.2


def test_property_every_document_by_itself_and_formulas_are_not_toxic(method):
    docs = [Doc("", text) for text in made(MARKS["toxic"], 3, 4)]
    docs.append(Doc("", "该死 1+2=3, (4*5)/6 <= 7^8; 9-0 == 11"))
    together = method.columns(docs, None)
    for k, doc in enumerate(docs):
        assert {name: values[k] for name, values in together.items()} == {n: v[0] for n, v in method.columns([doc], None).items()}
    assert together["toxicity"][4] == 0 < together["toxicity"][:4].min()
    assert list(method.columns([], None)) == list(together) == ["quality", "toxicity", *(f"domain_{name}" for name in KINDS), "likeliest"]


def test_bad_input(method, tmp_path):
    from dataclasses import replace

    with pytest.raises(BadInput, match=r"chinesewebtext2\.domains: no document of .* is labelled 'laws'; did you mean law"):
        replace(method, domains=("laws", "news")).columns([Doc("", "x")], None)
    with pytest.raises(BadInput, match=r"chinesewebtext2\.benign is empty"):
        replace(method, benign="").columns([Doc("", "x")], None)
    for knobs in ({"domains": ()}, {"labelled": ""}, {"domains": ("law",)}):
        with pytest.raises(ValueError, match="domains and labelled go together"):
            replace(method, **knobs)
