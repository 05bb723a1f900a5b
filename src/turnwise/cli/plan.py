"""``turnwise plan``: due instants, a cycle as a table and a bar, and what settings promise."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from turnwise.cli.chart import ChartFile, require_drawable, write
from turnwise.cli.errors import BadInput, settings_as_options
from turnwise.cli.given import duration, name
from turnwise.cli.options import At, Json, option
from turnwise.cli.output import console, cut, few, literal, print_json, rounded, table
from turnwise.cli.promises import print_review, review_as_json
from turnwise.cli.runner_file import ListedRunner, read_runners
from turnwise.cli.schedule import odd_day, takes_schedule_argument, zone_name, zone_of
from turnwise.cli.service_options import takes_settings
from turnwise.cycles import Slot, instant, microseconds
from turnwise.overview import words
from turnwise.plan import CyclePlan, Planner, Target, next_target, with_target
from turnwise.review import Review, review
from turnwise.schedules import Schedule
from turnwise.settings import Settings

_BAR_WIDTH = 72
_MOST_ROWS = 50
_MOST_RUNNERS = 999_999
_DUES = 5
_FEW = 6

EXAMPLES = {
    "plan": """\
turnwise plan 'every 5m' --runners 4 --longest-run 40s
turnwise plan 'cron 0 3 * * * Europe/Vienna' --runners 6 --longest-run 45m
turnwise plan --every 1m --runners runners.json --chart cycle.svg
""",
}


@dataclass(frozen=True, slots=True)
class Planned:
    """The first cycle of a period, planned for a number of runners or for those of a file.

    ``sleeping`` count and have no slot in it; ``outside`` do not count, each with why.
    """

    cycle: CyclePlan | None
    sleeping: tuple[str, ...]
    outside: tuple[tuple[str, str], ...]

    @property
    def slots(self) -> list[tuple[str, Slot]]:
        """Each runner that has a slot, with it."""
        cycle = self.cycle
        if cycle is None:
            return []
        return [(runner, cycle.slot(place)) for place, (runner, _) in enumerate(cycle.runners)]

    @property
    def size(self) -> int:
        """How many runners count."""
        return 0 if self.cycle is None else self.cycle.size


Runners = Annotated[
    str,
    option(
        "--runners",
        metavar="N|FILE",
        help="How many runners there are, or a JSON file: a list of objects with id, "
        "creation_time, last_heartbeat and, if need be, may_run.",
    ),
]
LongestRun = Annotated[
    timedelta | None,
    option(
        "--longest-run",
        parser=duration,
        default="not known",
        help="How long the longest run takes.",
    ),
]
ClockSkew = Annotated[
    timedelta,
    option(
        "--clock-skew",
        parser=duration,
        default="0s",
        help="The largest difference between the own clocks of two runners.",
    ),
]
NamedService = Annotated[
    str,
    option(
        "--service",
        parser=name,
        default="service",
        help="The service's name: its rotation and its stagger depend on it.",
    ),
]


@takes_schedule_argument
@takes_settings
def plan(
    *,
    runners: Runners,
    longest_run: LongestRun = None,
    clock_skew: ClockSkew = timedelta(0),
    service: NamedService = "service",
    at: At = None,
    settings: Settings,
    as_json: Json = False,
    chart: ChartFile = None,
) -> int:
    """Show when a schedule is due next, who has which slot, and what the settings promise.

    Nothing is stored, and no storage is asked. Exit status 1 where a finding is an error.
    """
    if chart is not None:
        require_drawable(chart)
    now = at or datetime.now(UTC)
    with settings_as_options():
        planner = Planner.of(service, settings)
        planned = _planned(runners, planner, settings, now)
        count = max(planned.size, 1)
        promised = review(settings, runners=count, longest_run=longest_run, clock_skew=clock_skew)
        dues = _next_dues(planner.schedule, now)
    if as_json:
        print_json(_as_json(planner, planned, promised, dues))
    else:
        _print(planner, planned, promised, dues)
    if chart is not None:
        _draw(planned, chart, quiet=as_json)
    return 1 if planned.size == 0 or promised.has_errors else 0


def _next_dues(schedule: Schedule, now: datetime) -> list[datetime]:
    """The next few due instants; fewer where the years that are counted end."""
    first = schedule.period_at(now)
    dues = [first.due if first.due == now else first.until]
    with suppress(ValueError):
        while len(dues) < _DUES:
            dues.append(schedule.period_at(dues[-1]).until)
    return dues


# Who has which slot -------------------------------------------------------------------------------


def _planned(runners: str, planner: Planner, settings: Settings, now: datetime) -> Planned:
    due = microseconds(_next_dues(planner.schedule, now)[0])
    if _is_number(runners):
        return _with_slots([f"runner {n}" for n in range(1, int(runners) + 1)], planner, due)
    listed = read_runners(runners)
    at, timeout = microseconds(now), microseconds(settings.heartbeat_timeout)
    outside = [(one.runner_id, why) for one in listed if (why := one.why_outside(at, timeout))]
    gone = {runner_id for runner_id, _ in outside}
    stable = sorted((one for one in listed if one.runner_id not in gone), key=_place)
    return _with_slots([one.runner_id for one in stable], planner, due, outside)


def _place(runner: ListedRunner) -> tuple[int, str]:
    return runner.joined_at, runner.runner_id


def _is_number(text: str) -> bool:
    if not text.lstrip("-").isdecimal():
        return False
    if not text.isdecimal() or len(text) > len(str(_MOST_RUNNERS)) or int(text) < 1:
        raise BadInput(f"--runners must be 1 to {_MOST_RUNNERS:,}, or a file, got {text}")
    return True


def _with_slots(
    names: Sequence[str],
    planner: Planner,
    due: int,
    outside: Sequence[tuple[str, str]] | None = None,
) -> Planned:
    """The first cycle of a period, for the runners of a set in its order.

    Where they are those of a file, of which some may be ``outside``, they are rotated as they would
    be by the first plan of all; mere numbers are not.
    """
    if not names:
        return Planned(None, (), tuple(outside or ()))
    target = next_target(None, planner, lambda *_: False, due)
    assert isinstance(target, Target)  # noqa: S101 (a period begins, and is not over)
    start = 0 if outside is None else target.rotation % len(names)
    rotated = [*names[start:], *names[:start]]
    with_slot = tuple((runner, 0) for runner in rotated[: target.limit])
    made = with_target(None, target, with_slot, len(names), digest=0)
    return Planned(made.cycles[0], tuple(rotated[len(with_slot) :]), tuple(outside or ()))


# As text ------------------------------------------------------------------------------------------


def _print(planner: Planner, planned: Planned, promised: Review, dues: Sequence[datetime]) -> None:
    _print_settings(promised.settings, planner, planned.size)
    _print_dues(dues, planner.schedule)
    _print_cycle(planned, planner)
    if planned.size == 0:
        console.print("\n[bold red]error[/]: no runner counts: nobody ever starts")
        return
    console.print()
    print_review(promised)


def _print_settings(settings: Settings, planner: Planner, count: int) -> None:
    how = "one run in each slot" if planner.rules.every_slot else "one run in each period"
    console.print(literal(f"{planner.schedule}, {how}"))
    shortest = settings.shortest_cycle
    console.print(
        f"{count:,} runner{'' if count == 1 else 's'}, cycles of {rounded(shortest)}, guard time "
        f"{rounded(settings.spread_margin)}, heartbeat timeout "
        f"{rounded(settings.heartbeat_timeout)}"
    )


def _print_dues(dues: Sequence[datetime], schedule: Schedule) -> None:
    zone = zone_of(schedule)
    with_wall = zone is not UTC
    rows = table("next due, UTC", *([zone_name(zone)] if with_wall else []), "")
    for due in dues:
        wall = due.astimezone(zone)
        walls = [f"{wall:%a %Y-%m-%d %H:%M:%S %z}"] if with_wall else []
        rows.add_row(words.when(microseconds(due)), *walls, odd_day(wall, zone))
    console.print()
    console.print(rows)


def _print_cycle(planned: Planned, planner: Planner) -> None:
    cycle = planned.cycle
    console.print()
    if cycle is not None:
        console.print(f"the first cycle, {words.lasting(cycle.end - cycle.start)} from its start:")
        rows = table("slot", "runner", "role", "from", "start by", "guard from", "to")
        for number, (runner, slot) in enumerate(planned.slots[:_MOST_ROWS], 1):
            edges = (slot.start, slot.latest, slot.end, slot.guard_end)
            shown = (words.lasting(edge - cycle.start) for edge in edges)
            said = words.role(slot.position, every_slot=planner.rules.every_slot)
            rows.add_row(str(number), literal(cut(runner)), said, *shown)
        console.print(rows)
        if len(planned.slots) > _MOST_ROWS:
            console.print(f"... and {len(planned.slots) - _MOST_ROWS:,} slots more")
        console.print()
        console.print(_bar(cycle, planned.slots), soft_wrap=True)
        console.print("# may start   - too late to start, may run   . guard time", style="dim")
    _print_names(planned.sleeping)
    for runner, why in planned.outside:
        console.print(literal(f"does not count: {cut(runner)}: {why}"))


def _print_names(names: Sequence[str]) -> None:
    if not names:
        return
    shown = few([cut(runner) for runner in names], _FEW)
    verb = "sleeps" if len(names) == 1 else "sleep"
    console.print(literal(f"{shown} {verb} through this cycle"))


def _bar(cycle: CyclePlan, slots: Sequence[tuple[str, Slot]]) -> str:
    """The cycle in 72 characters; each shows what holds at its middle."""
    length = cycle.end - cycle.start
    bar, number = [], 0
    for column in range(_BAR_WIDTH):
        # Rounded down, so that it is within the cycle, however short that is.
        at = cycle.start + length * (2 * column + 1) // (2 * _BAR_WIDTH)
        while slots[number][1].guard_end <= at:
            number += 1
        slot = slots[number][1]
        bar.append("." if at >= slot.end else "-" if at > slot.latest else "#")
    ruler = ""
    for place, (_, slot) in enumerate(slots, 1):
        column = round((slot.start - cycle.start) / length * _BAR_WIDTH)
        if column >= len(ruler) + (1 if ruler else 0) and column < _BAR_WIDTH:
            ruler = ruler.ljust(column) + str(place)
    return f"{ruler}\n{''.join(bar)}"


# As JSON, and as a picture ------------------------------------------------------------------------


def _as_json(
    planner: Planner, planned: Planned, promised: Review, dues: Sequence[datetime]
) -> dict[str, object]:
    cycle = planned.cycle
    return {
        "schedule": str(planner.schedule),
        "runners": planned.size,
        "cycle_seconds": promised.settings.shortest_cycle,
        "next_dues": list(dues),
        "slots": [
            {
                "runner_id": runner,
                "role": words.role(slot.position, every_slot=planner.rules.every_slot),
                "start": instant(slot.start),
                "start_by": instant(slot.latest),
                "end": instant(slot.end),
                "guard_end": instant(slot.guard_end),
            }
            for runner, slot in planned.slots
        ],
        "cycle_start": None if cycle is None else instant(cycle.start),
        "cycle_end": None if cycle is None else instant(cycle.end),
        "sleeping": list(planned.sleeping),
        "outside": dict(planned.outside),
        "review": review_as_json(promised),
    }


def _draw(planned: Planned, path: Path, *, quiet: bool) -> None:
    from turnwise.chart import picture_of_plan  # noqa: PLC0415 (an extra)

    if planned.cycle is None:
        raise BadInput(f"{path}: no runner counts, so there is nothing to draw")
    lanes = [runner for runner, _ in planned.slots] + list(planned.sleeping)
    left_out = len(lanes) - _MOST_ROWS
    title = "a cycle" + (f"; {left_out:,} more runners" if left_out > 0 else "")
    if not quiet:
        console.print()
    picture = picture_of_plan([planned.cycle], lanes[:_MOST_ROWS], title=title)
    write(picture, path, quiet=quiet)
