"""How much a reply is like a reference, by the measures of LongBench, each from 0 to 1.

Source: Bai et al. 2024, arXiv 2308.14508; token F1 is that of Rajpurkar et al. 2016, arXiv 1606.05250, ROUGE-L that of Lin 2004,
"ROUGE: a package for automatic evaluation of summaries".

Differs: Chinese is compared by characters, not by the words of a segmenter; punctuation of both languages is taken off in either, and
text is in one form of Unicode; ROUGE-L is that of the
package rouge-score over the whole reply, not sentence by sentence.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from bloomery.core.errors import BadInput

HAN = r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]"
PUNCTUATION = frozenset(
    string.punctuation + "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～「」、〃》《『』【】〔〕〖〗〜–—‘’“”…‧"
)


def words(text: str) -> list[str]:
    """Words in small letters without punctuation and English articles; each Chinese character is one."""
    bare = "".join(letter for letter in unicodedata.normalize("NFC", text.lower()) if letter not in PUNCTUATION)
    return re.findall(rf"{HAN}|(?:(?!{HAN})\S)+", re.sub(r"\b(?:a|an|the)\b", " ", bare))


def token_f1(reply: str, answer: str) -> float:
    """Harmonic mean of the shares of words that both have, repeats counted."""
    said, wanted = words(reply), words(answer)
    both = sum((Counter(said) & Counter(wanted)).values())
    return 2 * both / (len(said) + len(wanted)) if both else 0.0


class _Pieces:
    """What rouge-score takes in the place of a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(rf"{HAN}|(?:(?!{HAN})\w)+", unicodedata.normalize("NFC", text.lower()))


def rouge_l(reply: str, answer: str) -> float:
    """F-measure of the longest common subsequence of words. BadInput where the package is missing."""
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ModuleNotFoundError:
        raise BadInput("longbench needs the package rouge-score: pip install -c constraints.txt 'bloomery[longbench]'") from None
    return float(RougeScorer(["rougeL"], tokenizer=_Pieces()).score(answer, reply)["rougeL"].fmeasure)


def classified(reply: str, answer: str, classes: Sequence[str]) -> float:
    """1 over the number of classes that a reply names where the right one is among them, else 0; a class whose name is a part of the right
    one's does not count."""
    named = [one for one in classes if one in reply and not (one in answer and one != answer)]
    return 1 / len(named) if answer in named else 0.0


def counted(reply: str, answer: str) -> float:
    """The share of a reply's numbers that are the right one, the last one in the answer."""
    numbers, wanted = re.findall(r"\d+", reply), re.findall(r"\d+", answer)
    return numbers.count(wanted[-1]) / len(numbers) if numbers and wanted else 0.0


def code_likeness(reply: str, answer: str) -> float:
    """Share of characters in common of the answer and the first line of a reply that is code, neither comment nor fence."""
    line = next((one for one in reply.split("\n") if one.strip() and not re.search(r"`|#|//", one)), "")
    return round(100 * SequenceMatcher(None, line, answer).ratio()) / 100


def likeness(measure: str, reply: str, answers: Sequence[str], classes: Sequence[str] = ()) -> float:
    """The best over the answers by a measure: f1, rouge, class, number or code."""
    if measure == "class":
        return max(classified(reply, answer, classes) for answer in answers)
    by_name = {"f1": token_f1, "rouge": rouge_l, "number": counted, "code": code_likeness}
    return max(by_name[measure](reply, answer) for answer in answers)
