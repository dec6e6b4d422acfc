"""Problems and their answers."""

from __future__ import annotations

import re

from bloomery.data.worlds.arithmetic import World


def test_answers_are_right_and_stand_in_the_documents() -> None:
    world = World(documents=80)
    for i in range(80):
        doc = world.document(i)
        assert re.findall(r"Q: (.+)\nA: (.+)\n", doc.text) == world.problems(i)
        for question, answer in world.problems(i):
            numbers = [int(sign + digits) for sign, digits in re.findall(r"([+-]?)(\d+)", question)]
            assert int(answer) == (numbers[0] * numbers[1] if "*" in question else sum(numbers))
            assert ("*" in question) == (doc.meta["domain"] == "multiply") and (len(numbers) == 3) == (doc.meta["domain"] == "chain")
