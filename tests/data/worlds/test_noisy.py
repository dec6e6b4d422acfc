"""What a perfect cleaner would leave."""

from __future__ import annotations

from collections import defaultdict

from bloomery.data.worlds.noisy import BOILERPLATE, World

WORLD = World(documents=800)


def test_the_truth_says_what_is_clean() -> None:
    kinds = defaultdict(list)
    for i in range(WORLD.documents):
        doc = WORLD.document(i)
        kinds[doc.meta["domain"]].append(doc)
        assert len(doc.meta["lines"]) == len(doc.text.splitlines())
        kept = [line for line, keep in zip(doc.text.splitlines(), doc.meta["lines"], strict=True) if keep]
        if doc.meta["domain"] in ("clean", "boilerplate"):
            assert "".join(f"{line}\n" for line in kept) == doc.meta["clean"]
    assert all(doc.meta["clean"] == doc.text for doc in kinds["clean"])
    assert all(doc.meta["clean"] == "" for name in ("junk", "repeated") for doc in kinds[name])
    for doc in kinds["boilerplate"]:
        assert any(line in BOILERPLATE for line in doc.text.splitlines()) and not any(line in doc.meta["clean"] for line in BOILERPLATE)
    for doc in kinds["corrupted"]:
        assert doc.text != doc.meta["clean"] and sorted(doc.text) == sorted(doc.meta["clean"])
    assert 0.4 < len(kinds["clean"]) / WORLD.documents < 0.6


def test_repeated_texts_have_much_in_common_and_others_little() -> None:
    texts = {kind: [set(zip(w := doc.text.split(), w[1:], w[2:])) for doc in docs] for kind, docs in kinds_of(World(documents=400)).items()}

    def nearest(sets: list) -> float:
        return sum(max(len(a & b) / len(a | b) for b in sets if b is not a) for a in sets[:20]) / 20

    assert nearest(texts["repeated"]) > 0.6 > 0.3 > nearest(texts["clean"])


def test_without_noise_all_is_clean() -> None:
    assert set(kinds_of(World(documents=60, noise=0.0))) == {"clean"}


def kinds_of(world: World) -> dict:
    found = defaultdict(list)
    for i in range(world.documents):
        doc = world.document(i)
        found[doc.meta["domain"]].append(doc)
    return found
