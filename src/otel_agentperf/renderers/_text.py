"""Names and times as people read them on a terminal, whatever the trace holds and whatever the output can show."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

from rich.text import Text

_ASCII = str.maketrans({"█": "#", "░": "-", "·": "|", "×": "x", "→": ">", "✓": "*", "…": "~", "\ufffd": "?"})
_LONGEST_NAME = 48


def seconds(value: float) -> str:
    """`0.4 ms`, `12 ms`, `1.23 s`, `45.6 s`, `12m 05s`, `3h 02m`."""
    if value < 0.9995:
        return f"{value * 1e3:.0f} ms" if value >= 0.00995 or not value else f"{value * 1e3:.1f} ms"
    if value < 119.5:
        return f"{value:.2f} s" if value < 9.995 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes}m {rest:02d}s" if minutes < 60 else f"{minutes // 60}h {minutes % 60:02d}m"


def rounded_down(score: float) -> float:
    """To two decimals: a score just below a grade's limit must not look as if it reached it."""
    return float(Decimal(str(score)).quantize(Decimal("0.01"), ROUND_DOWN))


def plain(text: str, longest: int | None = None) -> str:
    """Without control characters and terminal escapes, which names from a trace may hold, and not without end."""
    longest = longest or _LONGEST_NAME
    cut = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(character if character.isprintable() else "\ufffd" for character in cut)


def fitted(name: str, cells: int) -> Text:
    """A name cut to the width that there is for it."""
    text = Text(plain(name, max(1, cells)))
    text.truncate(max(1, cells), overflow="ellipsis")
    return text


def count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def encodable(text: str, encoding: str) -> str:
    """The text as `encoding` can say it: with ASCII for our signs, and ? for what there is no sign for."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    return text
