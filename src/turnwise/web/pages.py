"""What each page shows, as plain values: templates put them into HTML, and decide nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from turnwise.cycles import instant
from turnwise.overview import spoken, words
from turnwise.overview.findings import Finding, Level, findings_of, in_one_line, worst
from turnwise.overview.known import GroupKnown, Known, is_gone, works
from turnwise.overview.lives import Life
from turnwise.web.reading import STRIP_PERIODS, Reader
from turnwise.web.strip import Strip, strip_of

MOST_RUNNERS = 200
_MOST_FINDINGS = 8
_LOOKS = {
    "unknown": "Not known",
    "overdue": "Overdue",
    "running": "Running",
    "paused": "Paused",
    "nobody": "Nobody there",
    "triggered": "Triggered",
    "waits": "Waiting",
    "due": "Due",
}
"""How a service is, in a word, by the look of its mark."""


# A service in short -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class State:
    """What a service does now: the look of its mark, a word, and a sentence that may be empty."""

    look: str
    word: str
    said: str


@dataclass(frozen=True, slots=True)
class When:
    """An instant as a page shows it: in UTC, in the schedule's zone, and from now."""

    machine: str
    utc: str
    zone: str
    beside: str


@dataclass(frozen=True, slots=True)
class ServiceLine:
    """A service as the page of all services shows it."""

    name: str
    schedule: str
    text: str
    state: State
    level: Level
    due: When | None
    success: When | None
    strip: Strip


@dataclass(frozen=True, slots=True)
class Said:
    """Something that is not as it should be, and of which service."""

    service: str
    level: Level
    said: str


def state_of(known: Known) -> State:
    """What a service does now."""
    look = _look_of(known)
    said = "" if look in ("waits", "nobody") else words.state(known)
    # The word stands before it already.
    return State(look, _LOOKS[look], said.removeprefix(f"{_LOOKS[look].lower()} "))


def _look_of(known: Known) -> str:
    if known.unreadable is not None or known.settings is None:
        return "unknown"
    if known.open is not None:
        return "overdue" if known.is_overdue else "running"
    if known.is_paused:
        return "paused"
    if not known.may_serve:
        return "nobody"
    if known.gate is not None and known.gate.trigger is not None:
        return "triggered"
    return "waits" if known.is_over or known.gate is None else "due"


def next_due_of(known: Known) -> When | None:
    """When a service is due next; None where that is not known."""
    if known.planner is None or known.next_due is None:
        return None
    zone = spoken.zone_of(known.planner.schedule)
    there = "" if zone is None else _there(known.next_due, zone)
    return _when(known.next_due, known.now, f"in {_roughly(known.next_due - known.now)}", there)


def _there(at: int, zone: str) -> str:
    """What a zone's wall clock shows, with its date where that is another one than in UTC."""
    date, _, rest = spoken.in_zone(at, zone).partition(" ")
    return (
        f"{rest} {zone}" if date == words.second(at).partition(" ")[0] else f"{date} {rest} {zone}"
    )


def success_of(known: Known) -> When | None:
    """When a service last ended well; None where it never did, as far as is known."""
    success = None if known.gate is None else known.gate.success
    if success is None:
        return None
    return _when(success.at, known.now, f"{_roughly(known.now - success.at)} ago", "")


def _when(at: int, now: int, beside: str, zone: str) -> When:
    return When(f"{instant(at):%Y-%m-%dT%H:%M:%SZ}", words.second(at, now), zone, beside)


_ROUNDED = ((86_400, 3_600), (3_600, 60), (60, 1))


def _roughly(length: int) -> str:
    """A duration with no more than two units, so that it does not change all the time."""
    seconds = max(0, length) // 1_000_000
    for at_least, unit in _ROUNDED:
        if seconds >= at_least:
            seconds -= seconds % unit
            break
    return words.lasting(seconds * 1_000_000)


def schedule_of(known: Known) -> tuple[str, str]:
    """When a service is due: in words, and as its text."""
    if known.planner is None:
        return "not known", ""
    said = spoken.in_words(known.planner.schedule)
    if known.planner.rules.every_slot:
        said += ", one run in each slot"
    return said, str(known.planner.schedule)


# All services -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ServicesPage:
    """What the page of all services shows."""

    group: str
    now: str
    lines: tuple[ServiceLine, ...]
    findings: tuple[Said, ...]
    more_findings: int
    counts: tuple[tuple[str, str, int], ...]
    alive: int
    room: int


def services_page(reader: Reader) -> ServicesPage:
    """All services of the group."""
    known = reader.known()
    findings = {each.name: list(findings_of(each)) for each in known.services}
    lines = tuple(_line(reader, each, findings[each.name]) for each in known.services)
    said = [
        Said(name, found.level, found.said) for name, each in findings.items() for found in each
    ]
    said.sort(key=lambda each: _URGENCY.index(each.level))
    return ServicesPage(
        known.group,
        now_of(known),
        lines,
        tuple(said[:_MOST_FINDINGS]),
        max(0, len(said) - _MOST_FINDINGS),
        tuple(_counts(lines)),
        len(alive_ids(known)),
        STRIP_PERIODS,
    )


_URGENCY = (Level.CRITICAL, Level.WARNING, Level.UNKNOWN, Level.OK)


def _line(reader: Reader, known: Known, findings: list[Finding]) -> ServiceLine:
    said, text = schedule_of(known)
    return ServiceLine(
        known.name,
        said,
        text,
        state_of(known),
        worst(findings),
        next_due_of(known),
        success_of(known),
        strip_of(reader.strip(known), STRIP_PERIODS),
    )


def _counts(lines: Sequence[ServiceLine]) -> list[tuple[str, str, int]]:
    """How many services have each state that any has: its look, its word, and the number."""
    looks = [line.state.look for line in lines]
    return [(look, word, looks.count(look)) for look, word in _LOOKS.items() if look in looks]


def now_of(known: GroupKnown) -> str:
    """The storage's now, to the second."""
    return words.second(known.now)


def alive_ids(known: GroupKnown) -> set[str]:
    """The ids of the runners that are alive."""
    return {life.row.runner_id for life in known.lives if life.is_alive}


# All runners --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunnerLine:
    """One life of a runner, as the page of all runners shows it."""

    runner_id: str
    key: str
    look: str
    word: str
    since: str
    heard: str
    works_on: tuple[str, ...]
    offers: int
    first_offers: tuple[str, ...]
    is_drained: bool
    may_be_drained: bool


@dataclass(frozen=True, slots=True)
class RunnersPage:
    """What the page of all runners shows. ``gone`` and ``hidden`` are not among ``lines``."""

    group: str
    now: str
    lines: tuple[RunnerLine, ...]
    alive: int
    drained: int
    gone: int
    hidden: int
    shows_all: bool


_FEW_OFFERS = 3


def runners_page(reader: Reader, *, every: bool) -> RunnersPage:
    """All runners of the group that are of interest, or all that are known."""
    known = reader.known()
    alive, at_work = alive_ids(known), works(known)
    listed = [life for life in known.lives if every or not is_gone(life, alive)]
    listed.sort(key=lambda life: _interest(life, bool(at_work.get(_key(life)))))
    shown = listed[:MOST_RUNNERS]
    offers = _offers_of(known, {_key(life) for life in shown})
    drained = {life.row.runner_id for life in listed if life.row.drained}
    return RunnersPage(
        known.group,
        now_of(known),
        tuple(
            _runner_line(life, at_work.get(_key(life), ()), offers.get(_key(life), []), known.now)
            for life in shown
        ),
        len(alive),
        len(drained),
        len(known.lives) - len(listed),
        len(listed) - len(shown),
        every,
    )


def _key(life: Life) -> tuple[str, str]:
    return life.row.runner_id, life.row.boot_id


def _interest(life: Life, is_at_work: bool) -> tuple[int, str, int]:  # noqa: FBT001 (a sort key)
    rank = 0 if not life.is_alive else 1 if is_at_work else 2 if life.row.drained else 3
    return rank, life.row.runner_id, life.row.joined_at


def _offers_of(known: GroupKnown, keys: set[tuple[str, str]]) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for service in known.services:
        for row in service.rows:
            key = (row.offer.runner_id, row.offer.boot_id)
            if key in keys:
                found.setdefault(key, []).append(service.name)
    return found


def _runner_line(
    life: Life, works_on: Sequence[str], offers: Sequence[str], now: int
) -> RunnerLine:
    look, word = "silent", "Silent"
    if life.has_left:
        look, word = "left", "Left"
    elif life.is_alive:
        look, word = ("drained", "Drained") if life.row.drained else ("alive", "Alive")
    return RunnerLine(
        life.row.runner_id,
        f"{crc32(repr(_key(life)).encode()):08x}",
        look,
        word,
        words.second(life.row.joined_at, now),
        words.ago(life.silent),
        tuple(works_on),
        len(offers),
        tuple(offers[:_FEW_OFFERS]),
        life.row.drained,
        not life.has_left,
    )


# How it is ----------------------------------------------------------------------------------------


def health_of(reader: Reader, service: str | None) -> tuple[Level, str]:
    """How the group is, or one of its services, as ``turnwise check`` says it: read anew."""
    known = reader.known_anew()
    if service is not None:
        one = tuple(each for each in known.services if each.name == service)
        if not one:
            return Level.UNKNOWN, "there is no such service"
        known = GroupKnown(known.group, known.now, known.lives, one)
    return in_one_line(known)
