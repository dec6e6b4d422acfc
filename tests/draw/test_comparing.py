"""What the comparison of models says where little is known."""

from __future__ import annotations

from bloomery.draw import page
from bloomery.draw.comparing import comparison, multiple

MODEL = {"name": "a", "parameters": None, "trained_tokens": None, "training_seconds": None, "seconds": None, "items": 0, "requests": 0,
         "tokens_read": 0, "tokens_written": 0, "training_text": None}  # fmt: skip
CELL = {"value": 0.5, "low": None, "high": None, "clean": None, "contaminated": 0, "n": 4, "metric": "accuracy", "unit": "share"}


def test_nothing_is_claimed_of_what_is_not_there():
    score = {"task": "lm_eval.quiz", "metric": "accuracy", "subject": "", "unit": "share", "better": "higher", "values": [CELL, None]}
    found = comparison({"models": [MODEL, {**MODEL, "name": "<b>"}], "scores": [score], "differences": [], "curves": []})
    assert found["told"] == "" and found["costs"] == [] and not found["twins"]
    (row,) = found["rows"]
    assert row["task"] == "quiz of lm-eval" and [cell["value"] for cell in row["cells"]] == ["50\u202f%", "–"]
    assert not any(cell["best"] for cell in row["cells"]), "one value alone is not the best"
    assert found["texts"][0] == ("a", "not at hand, so there are no clean twins")
    html = page.render(page.COMPARISON, title="t", **found)
    assert "Differences" not in html and "&lt;b&gt;" in html and "<b>" not in html.split("</header>")[0]


def test_how_many_differences_chance_would_single_out():
    row = {"p": 0.04, "adjusted": 0.6}
    said = multiple([row] * 20 + [{"p": 0.001, "adjusted": 0.02}, {"p": None, "adjusted": None}])
    assert "21 differences" in said and "about 1.1 intervals" in said and "21 one by one, 1 after" in said
    assert multiple([{"p": None, "adjusted": None}]) == ""
