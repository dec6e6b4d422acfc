from __future__ import annotations

from bloomery.draw.funnels import strata
from bloomery.draw.terminal import funnel_lines, histogram_lines, sample_lines

FUNNEL = {
    "in": {"documents": 1000, "bytes": 1000},
    "steps": [{"reason": "empty", "documents": 10, "bytes": 0}, {"reason": "keep: x > 1", "documents": 500, "bytes": 500}],
    "out": {"train": {"documents": 390, "bytes": 250}, "heldout": {"documents": 100, "bytes": 250}},
}


def test_the_bars_of_a_funnel_lie_where_the_bytes_do():
    lines = funnel_lines(strata(FUNNEL), wide=8)
    bars = [line.split("|")[1] for line in lines]
    assert bars == ["████████", "        ", "    ░░░░", "██      ", "  ██    "]
    assert "−      500" in lines[2] and "50\u202f%" in lines[2] and len({line.index("|") for line in lines}) == 1


def test_a_histogram_shows_lone_documents_and_marks_its_limit():
    spread = {"name": "a.b", "edges": [0.0, 1.0, 2.0, 3.0, 4.0], "kept": [0, 0, 100, 1], "dropped": [50, 0, 0, 0], "log": False}
    lines = histogram_lines({**spread, "limits": [(">=", 2.0)]}, tall=1)
    assert lines[0].startswith("a.b (kept where ≥") and lines[1].endswith("  █▁") and lines[2].endswith("▄   ")
    assert lines[3].rstrip() == " " * 12 + "▲" and lines[4].split() == ["0", "4"]
    assert len(histogram_lines({**spread, "dropped": [0] * 4, "limits": []}, tall=2)) == 4


def test_samples_stand_on_their_side():
    one = {"id": "d1", "path": "", "value": 3.0, "text": "a  long\ntext " * 20}
    lines = sample_lines({"column": "a.b", "sign": ">=", "value": 2.0, "kept": [one], "dropped": []}, wide=12)
    assert lines == ["a.b >= 2", "  kept    3  d1", "          a long text…", "  dropped none"]
