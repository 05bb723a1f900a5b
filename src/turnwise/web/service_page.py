"""What the page of one service shows: its state, turns over time, verdicts, history, settings."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from turnwise.audit import IN_WORDS, Audit, Judged
from turnwise.cycles import microseconds
from turnwise.gate import Command, Row
from turnwise.overview import words
from turnwise.overview.drawn import picture_of, rows_to_draw
from turnwise.overview.findings import Finding, findings_of
from turnwise.overview.known import Known, rows_of
from turnwise.overview.verdicts import audited, of_period
from turnwise.settings import Settings
from turnwise.web.pages import State, When, next_due_of, now_of, schedule_of, state_of, success_of
from turnwise.web.reading import Reader
from turnwise.web.strip import Strip, look_of, strip_of, verdict_of
from turnwise.web.timeline import Timeline, timeline_of

KINDS = ("completed", "abandoned", "blocked", "running", "command")
"""What the history can be narrowed to."""

SPANS = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "1d": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
"""How far back a viewer can look."""
_MOST_PERIODS = 3_000
"""A span with more of them is not offered: to judge it for each viewer would cost too much."""
_USUAL_PERIODS = 12
_MOST_ROWS = 100
_MOST_BAD = 20
_STRIP_PERIODS = 60


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a service is asked for: a span such as ``1d``, and kinds of rows; None for all."""

    name: str
    span: str | None = None
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PeriodLine:
    """A period that went wrong."""

    due: str
    look: str
    verdict: str
    said: str


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What became of the periods of a span."""

    total: int
    counts: tuple[tuple[str, int], ...]
    causes: tuple[tuple[str, int], ...]
    bad: tuple[PeriodLine, ...]
    more_bad: int
    strip: Strip
    unknown_before: str


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """A row of the history."""

    at: str
    late: str
    took: str
    who: str
    look: str
    status: str
    said: str


@dataclass(frozen=True, slots=True)
class ServicePage:
    """What the page of a service shows."""

    group: str
    now: str
    name: str
    state: State
    findings: tuple[Finding, ...]
    schedule: str
    text: str
    due: When | None
    success: When | None
    next_in_line: str
    alive: int
    may_serve: int
    is_paused: bool
    asked: Asked
    spans: tuple[str, ...]
    timeline: Timeline | None
    span_said: str
    verdicts: Verdicts | None
    history: tuple[HistoryLine, ...]
    is_cut: bool
    settings: tuple[tuple[str, str, bool], ...]
    differing: tuple[tuple[str, tuple[str, ...]], ...]


def service_page(reader: Reader, asked: Asked) -> ServicePage | None:
    """One service; None where there is none of that name."""
    group = reader.known()
    known = next((each for each in group.services if each.name == asked.name), None)
    if known is None:
        return None
    spans = _spans(known)
    span = asked.span if asked.span in spans else _usual(known, spans)
    asked = Asked(asked.name, span, asked.kinds)
    start = max(0, known.now - microseconds(SPANS[span]))
    rows, is_cut = _history(reader, known, start, asked.kinds)
    said, text = schedule_of(known)
    is_known = known.settings is not None and known.unreadable is None
    return ServicePage(
        group=group.group,
        now=now_of(group),
        name=known.name,
        state=state_of(known),
        findings=tuple(findings_of(known)),
        schedule=said,
        text=text,
        due=next_due_of(known),
        success=success_of(known),
        next_in_line=words.next_in_line(known),
        alive=len(known.alive),
        may_serve=len(known.may_serve),
        is_paused=known.is_paused,
        asked=asked,
        spans=spans,
        timeline=_timeline(reader, known, start) if is_known else None,
        span_said=f"{words.second(start)} to {words.second(known.now)} UTC",
        verdicts=_verdicts(audited(reader.storage, known, start)) if is_known else None,
        history=rows,
        is_cut=is_cut,
        settings=_settings(known.settings),
        differing=tuple(known.differing()),
    )


# Spans --------------------------------------------------------------------------------------------


def _spans(known: Known) -> tuple[str, ...]:
    """The spans that can be asked for: those that do not have too many periods."""
    if known.next_due is None or known.last_due is None:
        return tuple(SPANS)
    longest = (known.next_due - known.last_due) * _MOST_PERIODS
    fitting = tuple(name for name, length in SPANS.items() if microseconds(length) <= longest)
    return fitting or tuple(SPANS)[:1]


def _usual(known: Known, spans: Sequence[str]) -> str:
    """The shortest span with a dozen periods, or else the longest."""
    if known.next_due is None or known.last_due is None:
        return spans[-1]
    least = (known.next_due - known.last_due) * _USUAL_PERIODS
    return next((name for name in spans if microseconds(SPANS[name]) >= least), spans[-1])


def _timeline(reader: Reader, known: Known, start: int) -> Timeline:
    until = known.now + 1
    rows = rows_to_draw(reader.storage, known, start, until)
    return timeline_of(picture_of(known, rows, start, until))


# Verdicts, and the history ------------------------------------------------------------------------


def _verdicts(found: Audit) -> Verdicts:
    bad = [each for each in found.periods if each.is_bad]
    totals = [(str(verdict), count) for verdict, count in found.totals.items() if count]
    if found.served_twice:
        totals.append(("served twice", found.served_twice))
    known_from = found.known_from
    unknown = known_from is not None and known_from > found.since
    strip = found.periods[-_STRIP_PERIODS:]
    return Verdicts(
        total=len(found.periods),
        counts=tuple(totals),
        causes=tuple((IN_WORDS[cause], count) for cause, count in found.causes.items()),
        bad=tuple(_period_line(each) for each in reversed(bad[-_MOST_BAD:])),
        more_bad=max(0, len(bad) - _MOST_BAD),
        strip=strip_of(strip, len(strip)),
        unknown_before=words.second(known_from) if unknown else "",
    )


def _period_line(judged: Judged) -> PeriodLine:
    return PeriodLine(
        words.second(judged.due), look_of(judged), verdict_of(judged), of_period(judged)
    )


def _history(
    reader: Reader, known: Known, start: int, kinds: tuple[str, ...]
) -> tuple[tuple[HistoryLine, ...], bool]:
    """The newest rows of a span, newest first, and whether there are more."""
    rows = rows_of(reader.storage, known, since=start, last=_MOST_ROWS + 1, kinds=kinds or None)
    shown = rows[-_MOST_ROWS:]
    return tuple(_line(row, known.now) for row in reversed(shown)), len(rows) > len(shown)


def _line(row: Row, now: int) -> HistoryLine:
    at = words.second(row.at, now)
    if isinstance(row, Command):
        said = words.of_command(row).removeprefix(": ").strip()
        return HistoryLine(at, "", "", row.by, "command", str(row.name), said)
    ran = row.token is not None
    late = words.lasting(row.started_at - row.due) if ran and row.trigger is None else ""
    return HistoryLine(
        at,
        late,
        words.took(row, now),
        row.runner_id,
        str(row.status),
        str(row.status),
        words.of_execution(row),
    )


# Settings -----------------------------------------------------------------------------------------


def _settings(settings: Settings | None) -> tuple[tuple[str, str, bool], ...]:
    """Each setting: its name, its value, and whether that is another one than the default."""
    if settings is None:
        return ()
    mine = json.loads(settings.to_json())
    plain = json.loads(Settings(schedule=settings.schedule).to_json())
    return tuple(
        (name, _value(value), name != "schedule" and value != plain[name])
        for name, value in mine.items()
    )


def _value(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:,}" if isinstance(value, int) else str(value)
