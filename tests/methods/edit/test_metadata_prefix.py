from __future__ import annotations

import pytest

from bloomery.methods.edit.metadata_prefix import MetadataPrefix
from bloomery.seams import Doc, Rng

DOC = Doc("d", "The text.", {"domain": "news\nof today", "path": "a/b", "licence": ""})


def test_exact():
    method = MetadataPrefix(fields=("domain", "path", "licence"), share=1.0)
    (made,) = method.edit(DOC, None, Rng((0,)))
    assert made.text == "domain: news of today\npath: a/b\n\nThe text."
    assert [made.text[a:b] for a, b, _ in made.spans] == ["The text."] and made.meta["prefix"] == len(made.text) - 9
    (page,) = MetadataPrefix(("url", "title"), 1.0).edit(Doc("d", "x", {"url": "https://a.b/c", "title": "A  page"}), None, Rng((0,)))
    assert page.text == "url: https://a.b/c\ntitle: A page\n\nx"
    (part,) = method.edit(Doc("d", DOC.text, DOC.meta, [(4, 8, 2.0)]), None, Rng((0,)))
    assert [(part.text[a:b], weight) for a, b, weight in part.spans] == [("text", 2.0)]
    with pytest.raises(ValueError, match="fields"):
        MetadataPrefix(fields=("author",))


def test_property_the_share_is_drawn_by_document():
    made = [MetadataPrefix(share=0.7).edit(DOC, None, Rng((k,)))[0] for k in range(600)]
    assert 0.62 < sum(one is not DOC for one in made) / 600 < 0.78
    assert MetadataPrefix(share=0.0).edit(DOC, None, Rng((0,))) == [DOC]
    assert MetadataPrefix(fields=("licence",), share=1.0).edit(DOC, None, Rng((0,))) == [DOC]
