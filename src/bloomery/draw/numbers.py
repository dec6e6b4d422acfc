"""Numbers as people read them: few digits, a unit, thousands apart. Pure functions of the standard library.

The space between number and unit, and between thousands, is a narrow no-break space, so that no figure is ever torn apart.
"""

from __future__ import annotations

import math

THIN = "\u202f"  # narrow no-break space
DASH = "\u2013"
MINUS = "\u2212"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def count(value: float) -> str:
    """An exact whole number with its thousands apart: 1234567 -> '1 234 567'."""
    if not math.isfinite(value):
        return DASH
    digits = f"{abs(round(value)):,}".replace(",", THIN)
    return (MINUS if round(value) < 0 else "") + digits


def number(value: float, digits: int = 3) -> str:
    """`digits` significant digits, never fewer than the whole part: 0.012345 -> '0.0123', 1.9e-7 -> '1.9×10⁻⁷'."""
    if not math.isfinite(value):
        return DASH if math.isnan(value) else ("∞" if value > 0 else MINUS + "∞")
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if size < -4 or size > 14:
        mantissa, exponent = f"{abs(value):.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    elif size >= digits - 1:
        text = count(abs(value))
    else:
        text = f"{abs(value):.{digits - 1 - size}f}"
        text = text.rstrip("0").rstrip(".") if float(value).is_integer() else text
    return (MINUS if value < 0 else "") + text


def signed(value: float) -> str:
    """A difference with its sign and two decimals at least: 1.234 -> '+1.23', 0.0312 -> '+0.031'; nearer to zero than 0.00005 is 0."""
    if not math.isfinite(value) or abs(value) < 5e-5:
        return DASH if not math.isfinite(value) else "0"
    if float(value).is_integer() and abs(value) < 10:
        return f"{value:+.2f}".replace("-", MINUS)
    return ("+" if value > 0 else "") + number(value, 3 if abs(value) >= 1 else 2)


def si(value: float, unit: str = "", digits: int = 3) -> str:
    """A magnitude with a decimal prefix: 3412000 -> '3.41 M', 7.7e6 bytes -> '7.7 MB' with unit 'B'."""
    if not math.isfinite(value):
        return DASH
    if abs(value) >= 1e18:
        return number(value, digits) + (THIN + unit if unit else "")
    size, prefix = abs(value), ""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if float(f"{size:.{digits}g}") < 1000 or prefix == "P":
            break
        size /= 1000
    if not prefix and float(value).is_integer():
        text = f"{size:.0f}"
    else:
        rounded = float(f"{size:.{digits}g}")
        text = f"{rounded:.{max(0, digits - len(str(int(rounded))))}f}"
    tail = f"{prefix}{unit}"
    return (MINUS if value < 0 else "") + text + (THIN + tail if tail else "")


def size(value: float) -> str:
    """Bytes in decimal units, as disks and networks are sold: 7712345 -> '7.71 MB'."""
    return si(value, "B")


def seconds(value: float) -> str:
    """A duration in at most two units: 0.0123 -> '12 ms', 7.25 -> '7.3 s', 252 -> '4 min 12 s', 7980 -> '2 h 13 min'."""
    if not math.isfinite(value) or value < 0:
        return DASH
    if value < 0.9995:
        return f"{value * 1000:.0f}{THIN}ms" if value >= 0.001 or value == 0 else f"<{THIN}1{THIN}ms"
    if value < 9.95:
        return f"{value:.1f}{THIN}s"
    if value < 59.5:
        return f"{value:.0f}{THIN}s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}{THIN}min {whole % 60}{THIN}s"
    if whole < 48 * 3600:
        minutes = round(value / 60)
        return f"{minutes // 60}{THIN}h {minutes % 60}{THIN}min"
    return f"{value / 86400:.1f}{THIN}days"


def percent(share: float, digits: int = 2) -> str:
    """A share of one in percent: 0.2034 -> '20 %'; small shares keep `digits` significant digits, never '0 %' by rounding."""
    if not math.isfinite(share):
        return DASH
    value = round(share * 100, 10)
    if value and abs(value) < 0.01:
        return f"<{THIN}0.01{THIN}%" if value > 0 else f">{THIN}{MINUS}0.01{THIN}%"
    return number(value, digits) + THIN + "%"


def nearly(share: float) -> str:
    """A share that is near one, in percent with one decimal, never rounded up to all: 0.99999 -> '99.9 %'."""
    if not math.isfinite(share):
        return DASH
    return f"{100 if share >= 1 else math.floor(share * 1000 + 1e-9) / 10:.{0 if share >= 1 else 1}f}{THIN}%".replace("-", MINUS)


def plain(value: object) -> str:
    """Any JSON value of a card as short text: numbers get few digits, long hashes stay whole, containers become JSON."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value) if abs(value) < 10**12 else si(value)
    if isinstance(value, float):
        text = number(value, 4)
        return text.rstrip("0").rstrip(".") if "." in text and "×" not in text else text
    if isinstance(value, str):
        return value
    import json

    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
