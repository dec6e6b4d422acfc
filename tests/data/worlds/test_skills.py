"""Skills made of skills."""

from __future__ import annotations

from bloomery.data.worlds.skills import DOMAINS, GRAPH, World


def test_answers_follow_from_the_secret() -> None:
    world = World(documents=60)
    f = world.secret
    assert sorted(f) == sorted(f.values()) and World(seed=1).secret != f
    for i in range(60):
        doc = world.document(i)
        for line in doc.text.splitlines():
            if doc.meta["domain"] == "copy":
                assert len(set(line.split("="))) == 1
            elif doc.meta["domain"] == "follow":
                places = ["abcdefghijklmnop".index(letter) for letter in line.replace("<", "")]
                assert line[1] == "<" and places == [(places[0] + k) % 16 for k in range(4)]
            else:
                times = 2 if doc.meta["domain"] == "twice" else 1
                word, answer = line.split(":" if times == 2 else ">")
                for _ in range(times):
                    word = "".join(f[letter] for letter in word)
                assert word == answer and (len(word) == 1) == (doc.meta["domain"] == "map")
        assert 96 <= len(doc.text) < 130


def test_the_graph_names_skills() -> None:
    assert {*GRAPH, *(helped for row in GRAPH.values() for helped in row)} <= set(DOMAINS)
