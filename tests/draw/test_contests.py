"""The picture of a comparison: sound, both axes, the target, and a bar where there is one measurement alone."""

from __future__ import annotations

from xml.etree import ElementTree

from bloomery.draw.contests import Contender, contest
from bloomery.draw.page import standalone

EVIL = "</svg><script>alert('x')</script> & \" \x00"


def test_two_panels_with_the_target() -> None:
    rows = [Contender(f"m{i}", [(100 * j, 2 * j, 9 / j + i) for j in range(1, 6)]) for i in range(7)] + [Contender(EVIL, [(1, 1, 1.0)])]
    drawn = contest(rows, EVIL, "nats per token", 3.0)
    root = ElementTree.fromstring(standalone(drawn))
    words = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words.count("tokens") == 1 and words.count("seconds of training") == 1 and words.count("3 target") == 2
    assert not list(root.iter("{http://www.w3.org/2000/svg}script")) and "m0 ends at 1.8" in root.get("aria-label")
    assert len([one for one in root.iter("{http://www.w3.org/2000/svg}path") if "line t" in (one.get("class") or "")]) == 14


def test_who_has_no_seconds_is_drawn_over_tokens_alone() -> None:
    timed, untimed = Contender("timed", [(1, 1, 2.5), (2, 2, 2.0)]), Contender("untimed", [(1, None, 2.4), (2, None, 2.1)])
    for rows, lines in (([timed, untimed], 3), ([untimed], 1)):
        root = ElementTree.fromstring(standalone(contest(rows, "t", "nats", None)))
        assert len([one for one in root.iter("{http://www.w3.org/2000/svg}path") if "line t" in (one.get("class") or "")]) == lines


def test_bars_for_single_measurements() -> None:
    root = ElementTree.fromstring(contest([Contender("rtn", [(1, 1, 2.5)]), Contender("gptq", [(1, 1, 2.25)])], "t", "nats", None))
    assert root.get("class") == "chart bars" and {"2.500 nats", "2.250 nats", "t; less is better"} <= {
        text.text for text in root.iter("text")
    }
