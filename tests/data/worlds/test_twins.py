"""One language in two vocabularies."""

from __future__ import annotations

import re

from bloomery.data.worlds.twins import World


def words(text: str) -> list[str]:
    return re.findall(r"\w+|\W+", text)


def test_parallel_texts_are_translations_by_the_dictionary() -> None:
    world = World(documents=80, parallel=True)
    book = world.dictionary()
    a, b = ([doc for doc in map(world.document, range(80)) if doc.meta["domain"] == name] for name in "ab")
    assert len(a) == len(b) == 40
    for one, other in zip(a, b, strict=True):
        assert "".join(book.get(word, word) for word in words(one.text)) == other.text


def test_the_dictionary_is_one_to_one_between_vocabularies_without_a_common_word() -> None:
    book = World().dictionary()
    assert len(set(book.values())) == len(book) > 350 and not set(book) & set(book.values())


def test_otherwise_each_language_says_its_own() -> None:
    book = World().dictionary()
    a, b = ({World(documents=200, language=name).document(i).text for i in range(200)} for name in "ab")
    assert not {"".join(book.get(word, word) for word in words(text)) for text in a} & b
    assert World(language="a").document(7).text == World(parallel=True, language="a").document(7).text
