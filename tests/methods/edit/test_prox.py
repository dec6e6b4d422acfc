from __future__ import annotations

from types import SimpleNamespace

import pytest

from bloomery.core.errors import BadInput
from bloomery.methods.edit.prox import Prox, parsed, prompt, written
from bloomery.seams import Doc, Drop, Rng

RNG = Rng((0,))


class Refiner:
    """Answers each prompt with what `say` makes of its lines."""

    def __init__(self, say, ended: str = "stop", dropped: int = 0) -> None:
        self.say, self.ended, self.dropped, self.prompts = say, ended, dropped, []

    def ask(self, prompts, role, **sampling):
        assert role == "refiner"
        self.prompts += prompts
        return [SimpleNamespace(text=self.say(one), ended=self.ended, dropped=self.dropped) for one in prompts]


def clean(text: str, program: str, spans=(), **refiner):
    return Prox().edit(Doc("d", text, {}, list(spans)), Refiner(lambda _: program, **refiner), RNG)


def test_exact_programs_by_hand():
    text = "Home | About\none  two\nthree\nSubscribe!\nfour two\n"
    program = 'remove_lines(0, 0)\nnormalize(source_str="two", target_str="2")\nremove_lines(line_start=3, line_end=3)'
    assert clean(text, program)[0].text == "one  2\nthree\nfour 2\n"
    assert clean(text, "\nnormalize('one  ', '')")[0].text == "Home | About\ntwo\nthree\nSubscribe!\nfour two\n"
    assert clean(text, "drop_doc()") == Drop("refiner")
    assert clean("a\nb", "remove_lines(0, 1)") == Drop("nothing left")
    assert clean("a\nb", "remove_lines(1, 1)")[0].text == "a\n"
    doc = Doc("d", text)
    assert Prox().edit(doc, Refiner(lambda _: "keep_chunk()"), RNG) == [doc]
    assert prompt(["a", "b"]) == "[000] a\n[001] b\nprogram:"


@pytest.mark.parametrize(
    "program",
    [
        "",
        "nonsense",
        "remove_lines(0",
        "remove_lines(0, 0); import os",
        "remove_lines(1, 0)",
        "remove_lines(0, 3)",
        "remove_lines(-1, 0)",
        "remove_lines(0)",
        "remove_lines(0, 0, 0)",
        "remove_lines(True, True)",
        "remove_lines('0', '0')",
        "remove_lines(0, 0, all=True)",
        "normalize('', 'x')",
        "normalize(' ', 'x')",
        "normalize('a', 1)",
        "normalize(str(1), 'x')",
        "x = drop_doc()",
        "drop_doc(1)",
        "drop_doc",
        "(lambda: drop_doc())()",
        "__import__('os').system('touch /tmp/no')",
        "open('/tmp/no', 'w')",
        "remove_lines(0, 10**9)",
        "(" * 500 + ")" * 500,
        "drop_doc()\0",
    ],
)
def test_property_a_malformed_program_leaves_the_text_unchanged(program):
    doc = Doc("d", "a line\nb\nc", spans=[(0, 3, 1.0)])
    for said in (program, f"remove_lines(0, 0)\n{program}" if program else program):
        (found,) = Prox().edit(doc, Refiner(lambda _, said=said: said), RNG)
        assert found is doc


def test_a_program_or_prompt_that_was_cut_counts_for_nothing():
    assert clean("a\nb", "remove_lines(0, 0)", ended="limit")[0].text == "a\nb"
    assert clean("a\nb", "drop_doc()", dropped=3)[0].text == "a\nb"


def test_chunks_are_cleaned_one_by_one_and_spans_follow():
    lines = [f"{'junk' if i % 3 == 0 else 'good'} {i}" for i in range(30)]
    text = "\n".join(lines)

    def say(shown: str) -> str:
        rows = shown.split("\n")[:-1]
        return written([("remove_lines", (k, k)) for k, row in enumerate(rows) if "junk" in row])

    refiner = Refiner(say)
    spans = [(text.index(line), text.index(line) + len(line), float(i)) for i, line in enumerate(lines)]
    (found,) = Prox(lines=8).edit(Doc("d", text, {}, spans), refiner, RNG)
    assert found.text.rstrip("\n").split("\n") == [line for line in lines if "good" in line]
    assert [found.text[a:b] for a, b, _ in found.spans] == [line for line in lines if "good" in line]
    assert len(refiner.prompts) == 4 and all(one.startswith("[000] ") for one in refiner.prompts)


def test_what_is_written_is_read_again():
    program = [("remove_lines", (0, 3)), ("normalize", ('it\'s "so"\n', "é\\")), ("drop_doc", ())]
    assert parsed(written(program), 4) == program
    assert parsed(written([]), 4) == [("keep_chunk", ())]


def test_a_model_is_asked_for():
    with pytest.raises(BadInput, match="refiner"):
        Prox().edit(Doc("d", "x"), None, RNG)
    with pytest.raises(ValueError, match="lines"):
        Prox(lines=0)
