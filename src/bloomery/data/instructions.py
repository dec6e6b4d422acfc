"""The 25 instructions of IFEval whose following a program can verify, by the ids and arguments of its published rows.

Source: Zhou et al. 2023, arXiv 2311.07911. Each check is a function of the reply and the arguments. Differs from the published program:
languages are told by py3langid among those that the format knows, where a text without letters is in none; sentences are counted by rule
(`sentences`), not by a trained splitter, and words in capitals by a rule too, so that a contraction is one; words to be found are taken
literally, not as patterns; an argument that is missing is an error, not drawn at random.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bloomery.data.languages import likeliest

LANGUAGES = frozenset((
    "en", "es", "pt", "ar", "hi", "fr", "ru", "de", "ja", "it", "bn", "uk", "th", "ur", "ta", "te", "bg", "ko", "pl", "he", "fa", "vi",
    "ne", "sw", "kn", "mr", "gu", "pa", "ml", "fi", "zh",
))  # fmt: skip
OPTIONS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
SHORT = re.compile(r"\b(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|Inc|Ltd|Co|vs|etc|e\.g|i\.e|Fig|approx)\.$", re.IGNORECASE)
Check = Callable[..., bool]


def sentences(text: str) -> list[str]:
    """Sentences by rule: [.!?] with what closes quotes and brackets after it, before a space or the end; the dot of an initial, of a usual
    abbreviation and of a number in a list ends none."""
    found, start = [], 0
    for mark in re.finditer(r"[.!?。！？]+[\"'”’)\]*]*(?=\s|$)|[。！？]", text):
        piece = text[start : mark.end()].strip()
        if piece and not (SHORT.search(piece) and mark.end() < len(text.rstrip())) and not re.fullmatch(r"\(?(?:\d+|[a-zA-Z])[.)]", piece):
            found.append(piece)
            start = mark.end()
    return [*found, rest] if (rest := text[start:].strip()) and re.search(r"\w", rest) else found


def compared(number: int, relation: str, threshold: int) -> bool:
    """`less than` or `at least`, as the format writes them."""
    return number < threshold if relation == "less than" else number >= threshold


def times(needle: str, text: str) -> int:
    """How often a word or phrase stands in a text, whatever its capitals."""
    return text.casefold().count(needle.strip().casefold())


def is_json(text: str) -> bool:
    """Whether a text is JSON as a whole, in a fence or bare."""
    bare = re.sub(r"^```(?:json)?|```$", "", text.strip(), flags=re.IGNORECASE)
    try:
        json.loads(bare)
    except (ValueError, RecursionError):
        return False
    return True


def parted(text: str, divider: str) -> list[str] | None:
    """The parts between dividers, where only the first and the last may be empty, which then count for nothing; None where another is."""
    parts = re.split(divider, text)
    if any(not part.strip() for part in parts[1:-1]):
        return None
    return [part for part in parts if part.strip()]


def paragraph_begins(text: str, num_paragraphs: int, nth_paragraph: int, first_word: str) -> bool:
    """Whether there are so many paragraphs, parted by empty lines, and one of them begins with the word."""
    parts = text.split("\n\n")
    full = sum(bool(part.strip()) for part in parts)
    if full != num_paragraphs or not 1 <= nth_paragraph <= full or not (words := parts[nth_paragraph - 1].split()):
        return False
    word = words[0].lstrip("'").lstrip('"')
    return re.split(r"[.,?!'\"]", word, maxsplit=1)[0].casefold() == first_word.strip().casefold()


def bullets(text: str) -> int:
    """Lines that begin with an asterisk which no other follows, and lines that begin with a hyphen."""
    return sum(len(re.findall(mark, text, re.MULTILINE)) for mark in (r"^\s*\*[^*].*$", r"^\s*-.*$"))


def highlights(text: str) -> int:
    """Parts in *asterisks* and in **two of them** that are not empty."""
    single = [one for one in re.findall(r"\*[^\n*]*\*", text) if one.strip("*").strip()]
    return len(single) + sum(bool(one[2:-2].strip()) for one in re.findall(r"\*\*[^\n*]*\*\*", text))


def has_postscript(text: str, postscript_marker: str) -> bool:
    """Whether a postscript stands anywhere; dots may be followed by a space."""
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    marker = postscript_marker.strip()
    return re.search(known.get(marker, re.escape(marker.lower())), text.lower()) is not None


def two_responses(text: str) -> bool:
    """Whether six asterisks part two different answers."""
    parts = parted(text, re.escape("*" * 6))
    return parts is not None and len(parts) == 2 and parts[0].strip() != parts[1].strip()


def in_english(text: str) -> bool:
    """Whether a text is English; capitals do not mislead the detector."""
    return likeliest(text.lower(), LANGUAGES, "ifeval") == "en"


def titled(text: str) -> bool:
    """Whether something stands in <<double angular brackets>>."""
    return any(one.strip("<>").strip() for one in re.findall(r"<<[^\n]+>>", text))


def quoted(text: str) -> bool:
    """Whether the whole stands in double quotation marks."""
    bare = text.strip()
    return len(bare) > 1 and bare[0] == bare[-1] == '"'


CHECKS: dict[str, Check] = {
    "keywords:existence": lambda text, keywords: all(times(word, text) for word in keywords),
    "keywords:frequency": lambda text, keyword, frequency, relation: compared(times(keyword, text), relation, frequency),
    "keywords:forbidden_words": lambda text, forbidden_words: (
        not any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) for word in forbidden_words)
    ),
    "keywords:letter_frequency": lambda text, letter, let_frequency, let_relation: compared(
        text.lower().count(letter.strip().lower()), let_relation, let_frequency
    ),
    "language:response_language": lambda text, language: likeliest(text, LANGUAGES | {language}, "ifeval") == language,
    "length_constraints:number_sentences": lambda text, num_sentences, relation: compared(len(sentences(text)), relation, num_sentences),
    "length_constraints:number_paragraphs": lambda text, num_paragraphs: len(parted(text, r"\s?\*\*\*\s?") or ()) == num_paragraphs,
    "length_constraints:number_words": lambda text, num_words, relation: compared(len(re.findall(r"\w+", text)), relation, num_words),
    "length_constraints:nth_paragraph_first_word": paragraph_begins,
    "detectable_content:number_placeholders": lambda text, num_placeholders: len(re.findall(r"\[.*?\]", text)) >= num_placeholders,
    "detectable_content:postscript": has_postscript,
    "detectable_format:number_bullet_lists": lambda text, num_bullets: bullets(text) == num_bullets,
    "detectable_format:constrained_response": lambda text: any(one in text for one in OPTIONS),
    "detectable_format:number_highlighted_sections": lambda text, num_highlights: highlights(text) >= num_highlights,
    "detectable_format:multiple_sections": lambda text, section_spliter, num_sections: (
        len(re.findall(rf"{re.escape(section_spliter.strip())}\s?\d+", text)) >= num_sections
    ),
    "detectable_format:json_format": is_json,
    "detectable_format:title": titled,
    "combination:two_responses": two_responses,
    "combination:repeat_prompt": lambda text, prompt_to_repeat: text.strip().lower().startswith(prompt_to_repeat.strip().lower()),
    "startend:end_checker": lambda text, end_phrase: text.strip().strip('"').lower().endswith(end_phrase.strip().lower()),
    "change_case:capital_word_frequency": lambda text, capital_frequency, capital_relation: compared(
        sum(word.isupper() for word in re.findall(r"[^\s,;:?!\"()\[\]{}<>@#$%&]+", text)), capital_relation, capital_frequency
    ),
    "change_case:english_capital": lambda text: text.isupper() and in_english(text),
    "change_case:english_lowercase": lambda text: text.islower() and in_english(text),
    "punctuation:no_comma": lambda text: "," not in text,
    "startend:quotation": quoted,
}


def lacking(instruction: str, arguments: Mapping[str, Any]) -> str:
    """What keeps an instruction from being checked, as half a sentence; empty where nothing does."""
    if instruction not in CHECKS:
        return f"{instruction!r} is none of its instructions"
    code = CHECKS[instruction].__code__
    wanted = code.co_varnames[1 : code.co_argcount]
    missing = [name for name in wanted if arguments.get(name) is None]
    if missing:
        return f"{instruction} lacks its {missing[0]}"
    relations = [arguments[name] for name in wanted if name.endswith("relation")]
    return f"{instruction} has the relation {relations[0]!r}" if set(relations) - {"less than", "at least"} else ""


def followed(text: str, instruction: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a reply follows an instruction; an empty one follows none. Arguments that the instruction has no use for are passed over."""
    code = CHECKS[instruction].__code__
    given = {name: arguments[name] for name in code.co_varnames[1 : code.co_argcount]}
    return bool(text.strip()) and bool(CHECKS[instruction](text, **given))


def loosened(text: str) -> Sequence[str]:
    """The reply and what is left of it without its first line, its last, both, each also without asterisks."""
    lines = text.split("\n")
    cut = [text, "\n".join(lines[1:]).strip(), "\n".join(lines[:-1]).strip(), "\n".join(lines[1:-1]).strip()]
    return [*cut, *(one.replace("*", "") for one in cut)]
