"""Every instruction with replies that follow it and replies that do not."""

from __future__ import annotations

import pytest

pytest.importorskip("py3langid")

from bloomery.data.instructions import CHECKS, followed, lacking, loosened, sentences

GERMAN = "Das ist ein einfacher Satz über das Wetter, das den ganzen Tag gut war und morgen besser wird."
ENGLISH = "This is a plain sentence about the weather, which was good all day and will be better tomorrow."
CASES = [  # id, arguments, replies that follow it, replies that do not
    ("keywords:existence", {"keywords": ["c++", "Fire"]}, ["C++ is on fire."], ["fire only", "c+ fire"]),
    ("keywords:frequency", {"keyword": "ox", "frequency": 2, "relation": "at least"}, ["Ox and ox."], ["An ox."]),
    ("keywords:frequency", {"keyword": "ox", "frequency": 2, "relation": "less than"}, ["An ox.", "none"], ["ox OX"]),
    ("keywords:forbidden_words", {"forbidden_words": ["rain", "c++"]}, ["It is raining in C."], ["No rain.", "Rain?", "in C++"]),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 3, "let_relation": "at least"}, ["Eee"], ["ee"]),
    ("keywords:letter_frequency", {"letter": "!", "let_frequency": 1, "let_relation": "less than"}, ["a"], ["a!"]),
    ("language:response_language", {"language": "de"}, [GERMAN], [ENGLISH, "1234 5678", "?!"]),
    ("length_constraints:number_sentences", {"num_sentences": 3, "relation": "at least"}, ["One. Two! Three?"], ["A. Fox is 3.5 m. tall."]),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, ["Just one."], ["One. Two."]),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, ["a\n***\nb", "*** a *** b ***"], ["a", "a***\n***b", "a\n\nb", "***"]),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, ["one two three"], ["one, two."]),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, ["one two"], ["a b c"]),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Weekend"},
     ["A.\n\n\"weekend, it is"], ["A.\n\nA weekend", "Weekend", "A.\n\nWeekend\n\nB", "Weekend\n\nA"]),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[a] and [b]"], ["[a]", "[a"]),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, ["a\nP.S. b", "P. S. b"], ["PS b", "postscript"]),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["P.P.S b"], ["P.S. b"]),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, ["* a\n  * b", "- a\n- b", "*\n- b"],
     ["* a", "**a**\n* b", "* a\n* b\n- c"]),
    ("detectable_format:constrained_response", {}, ["My answer is maybe."], ["maybe", "My answer is unclear."]),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, ["*a* and *b*", "**a** *b*"], ["*a*", "* * *a*", "a"]),
    ("detectable_format:multiple_sections", {"section_spliter": "Section", "num_sections": 2}, ["Section 1\nSection 2"],
     ["Section 1", "section 1 section 2"]),
    ("detectable_format:json_format", {}, ['{"a": [1]}', '```json\n{"a": 1}\n```', "```\n[]\n```"], ["{a: 1}", 'Here: {"a": 1}', "no"]),
    ("detectable_format:title", {}, ["<<A day>>\ntext"], ["<A day>", "<< >>", "text"]),
    ("combination:two_responses", {}, ["a\n******\nb"], ["a******a", "a", "a***b", "a******b******c"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say A."}, ["say a. A."], ["A. Say A."]),
    ("startend:end_checker", {"end_phrase": "Is that all?"}, ['x "Is that ALL?"'], ["Is that all? Yes."]),
    ("change_case:capital_word_frequency", {"capital_frequency": 2, "capital_relation": "at least"}, ["GO NOW please"], ["Go NOW"]),
    ("change_case:capital_word_frequency", {"capital_frequency": 1, "capital_relation": "less than"}, ["go"], ["GO"]),
    ("change_case:english_capital", {}, [ENGLISH.upper()], [ENGLISH, GERMAN.upper(), "1"]),
    ("change_case:english_lowercase", {}, [ENGLISH.lower()], [ENGLISH, GERMAN.lower(), "1"]),
    ("punctuation:no_comma", {}, ["a; b"], ["a, b"]),
    ("startend:quotation", {}, ['"All of it."'], ['"', 'He said "no"!', "'a'"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES, ids=[f"{i}-{case[0]}" for i, case in enumerate(CASES)])
def test_replies_that_follow_and_those_that_do_not(name, arguments, good, bad):
    assert not lacking(name, arguments)
    assert [text for text in good if not followed(text, name, arguments)] == []
    assert [text for text in bad if followed(text, name, arguments)] == []
    assert not followed("", name, arguments) and not followed(" \n", name, arguments), "an empty reply follows nothing"


def test_all_twenty_five_are_tried_and_what_is_missing_is_named():
    assert len(CHECKS) == 25 and {case[0] for case in CASES} == set(CHECKS)
    assert "none of its instructions" in lacking("keywords:nothing", {})
    assert "lacks its keyword" in lacking("keywords:frequency", {"frequency": 1, "relation": "at least"})
    assert "relation 'around'" in lacking("keywords:frequency", {"keyword": "a", "frequency": 1, "relation": "around"})


def test_sentences_end_where_they_end():
    assert sentences("Dr. A. Smith paid $3.50 at approx. noon. He left!\nWhy? Nobody knows") == [
        "Dr. A. Smith paid $3.50 at approx. noon.", "He left!", "Why?", "Nobody knows",
    ]  # fmt: skip
    assert len(sentences("1. Boil it. 2. Eat it.")) == 2 and sentences(" \n") == [] and len(sentences('"Stop." "Go!" (Now.)')) == 3


def test_leeway_is_eight_readings():
    assert loosened("Sure:\n*a*\nBye") == [
        "Sure:\n*a*\nBye", "*a*\nBye", "Sure:\n*a*", "*a*", "Sure:\na\nBye", "a\nBye", "Sure:\na", "a",
    ]  # fmt: skip
