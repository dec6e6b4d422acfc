"""What `bloomery show` says of a vocabulary."""

from __future__ import annotations

from bloomery.cli.show import show_fit


def test_how_a_vocabulary_fits(capsys):
    facts = {
        "bytes_per_token_of": {"en": 3.5, "ru": 2.25, "": 1.0},
        "parity": {"en": 1.0, "ru": 1.75},
        "scripts": {"latin": {"tokens": 1200, "letters": 5000, "whole": 1.0}, "greek": {"tokens": 3, "letters": 0, "whole": None}},
        "broken": 0.0125,
    }
    show_fit(facts)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["ru", "2.250", "1.750"] in rows and ["none", "1.000"] in rows
    assert ["latin", "1,200", "5,000", "100.00%"] in rows and ["greek", "3", "0"] in rows
    assert rows[-1][0] == "1.250%"
    show_fit({})
    assert capsys.readouterr().out == "", "cards from before there were such figures"
