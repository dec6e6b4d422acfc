from __future__ import annotations

import pytest

pytest.importorskip("py3langid")

from bloomery.core.errors import BadInput
from bloomery.methods.signal.language import Language
from bloomery.seams import Doc

TEXTS = {
    "en": "This is a plain sentence about the weather, which was good all day and will be better tomorrow.",
    "de": "Das ist ein einfacher Satz über das Wetter, das den ganzen Tag gut war und morgen besser wird.",
    "fr": "Ceci est une phrase simple sur le temps, qui a été beau toute la journée et sera meilleur demain.",
    "ja": "これは天気についての簡単な文章です。今日は一日中良い天気でした。",
}


def test_exact_for_clear_text():
    found = Language(languages=tuple(TEXTS)).columns([Doc("", text) for text in TEXTS.values()], None)
    for k, code in enumerate(TEXTS):
        assert found[code][k] > 0.9 and found[code][k] == found["likeliest"][k] and found["known"][k] == 1


def test_property_probabilities_and_unknown_codes():
    found = Language(languages=("de",)).columns([Doc("", TEXTS["en"])], None)
    assert found["known"][0] == 0 and 0 <= found["de"][0] < 0.1 < found["likeliest"][0] <= 1
    with pytest.raises(BadInput, match="zz is not one of"):
        Language(languages=("zz",)).columns([Doc("", "a")], None)
    with pytest.raises(ValueError, match="languages"):
        Language(languages=("english",))
