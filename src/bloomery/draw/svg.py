"""The alphabet of every drawing: elements, escaped text, the width of a word, and pictures in several widths.

Colours and type come from CSS classes and custom properties (`charts.css`), so one drawing serves dark, light and print.
All lengths are CSS pixels at scale one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape

FONT = 12  # size of ordinary text in a drawing; charts.css says the same
_INVALID = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def clean(text: object) -> str:
    """Text that XML and HTML can hold: control characters and lone surrogates become the replacement character."""
    return _INVALID.sub("\ufffd", str(text))


def tag(name: str, *inside: str, **attributes: object) -> str:
    """One element. `inside` is markup already; attribute values are escaped, None is left out, numbers lose idle digits.

    A trailing underscore is dropped (`class_`), an inner one becomes a hyphen (`aria_label`).
    """
    head = [name]
    for key, value in attributes.items():
        if value is None:
            continue
        shown = _short(value) if isinstance(value, (int, float)) else escape(clean(value), quote=True)
        head.append(f'{key.rstrip("_").replace("_", "-")}="{shown}"')
    return f"<{' '.join(head)}>{''.join(inside)}</{name}>" if inside else f"<{' '.join(head)}/>"


def _short(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def text(content: object, x: float, y: float, class_: str = "", anchor: str = "start") -> str:
    """A line of text with its baseline at y; `anchor` is start, middle or end."""
    return tag("text", escape(clean(content)), x=x, y=y, class_=class_ or None, text_anchor=None if anchor == "start" else anchor)


def title(content: object) -> str:
    """What a pointer resting on the parent element shows."""
    return tag("title", escape(clean(content)))


def path(points: Sequence[tuple[float, float]], **attributes: object) -> str:
    """A polyline through `points`."""
    d = "M" + "L".join(f"{_short(x)} {_short(y)}" for x, y in points)
    return tag("path", d=d, **attributes)


def picture(width: float, height: float, label: str, *inside: str, kind: str = "") -> str:
    """The svg element: named for screen readers, scaling down with its column but hardly up, so that type keeps its size."""
    return tag(
        "svg", *inside, class_=f"chart {kind}".strip(), viewBox=f"0 0 {_short(width)} {_short(height)}", width=width, height=height,
        role="img", aria_label=label, style=f"max-width:{round(width * 1.15)}px",
    )  # fmt: skip


def measure(content: str, size: float = FONT) -> float:
    """The width of `content` in pixels, estimated generously for the wider interface fonts."""
    total = 0.0
    for letter in clean(content):
        if letter in "ijl.,:;|!'`()[] \u202f":
            total += 0.36
        elif letter in "mwMW@%—":
            total += 0.92
        elif letter.isupper() or ord(letter) > 0x2E7F:
            total += 0.72 if ord(letter) <= 0x2E7F else 1.05
        else:
            total += 0.59
    return total * size


def fit(content: object, width: float, size: float = FONT) -> str:
    """`content`, or as much of it as `width` holds and an ellipsis; the caller shows the whole in a title."""
    whole = clean(content)
    if measure(whole, size) <= width:
        return whole
    shown = whole
    while shown and measure(shown + "…", size) > width:
        shown = shown[:-1]
    return shown.rstrip() + "…"


def fluid(draw: Callable[[int], str], *widths: int) -> str:
    """The same drawing made for several widths; the page shows the one that its column has room for (charts.css).

    Widths are (350, 520) for half a page and (350, 700, 1060) for all of it.
    """
    kind = {2: "half", 3: "full"}[len(widths)]
    steps = "".join(f'<div class="w{place}">{draw(width)}</div>' for place, width in enumerate(widths))
    return f'<div class="fluid {kind}">{steps}</div>'


HALF = (350, 520)
FULL = (350, 700, 1060)
