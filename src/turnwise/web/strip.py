"""The verdicts of a service's last periods as a strip of marks, one beside the other."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from turnwise.audit import Judged
from turnwise.overview import words
from turnwise.overview.verdicts import of_period

_WIDTH = 7
_WIDEST_TITLE = 160


@dataclass(frozen=True, slots=True)
class Mark:
    """One period: where it stands, how it looks, and what it says to a pointer that rests on it."""

    x: int
    look: str
    title: str


@dataclass(frozen=True, slots=True)
class Strip:
    """The marks, the oldest on the left, and what they say to who does not see them."""

    marks: tuple[Mark, ...]
    width: int
    said: str


def strip_of(periods: Sequence[Judged], room: int) -> Strip:
    """The strip of some periods, in so much room that the newest stands on the right.

    Args:
        periods: oldest first.
        room: so many periods fit.
    """
    first = room - len(periods)
    marks = [
        Mark((first + number) * _WIDTH, look_of(each), _title(each))
        for number, each in enumerate(periods)
    ]
    return Strip(tuple(marks), max(0, room * _WIDTH - 1), _said(periods))


def look_of(judged: Judged) -> str:
    """The word that a period's mark is styled by."""
    return "twice" if judged.times > 1 else str(judged.verdict)


def verdict_of(judged: Judged) -> str:
    """A verdict in words."""
    return "served twice" if judged.times > 1 else str(judged.verdict)


def _title(judged: Judged) -> str:
    what = of_period(judged)
    said = f"{words.second(judged.due)} UTC: {verdict_of(judged)}"
    return f"{said}, {what}"[:_WIDEST_TITLE] if what else said


def _said(periods: Sequence[Judged]) -> str:
    if not periods:
        return "no period is known"
    counts = Counter(verdict_of(each) for each in periods)
    parts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    return f"last {len(periods)} periods: {parts}"
