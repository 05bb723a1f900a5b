"""``turnwise plan``: a cycle as a table and a bar, and what the configuration promises."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from turnwise.cli.chart import ChartFile, require_drawable, write
from turnwise.cli.errors import BadInput, settings_as_options
from turnwise.cli.options import (
    DEFAULTS,
    At,
    EverySlot,
    HeartbeatTimeout,
    Interval,
    Margin,
    MaxStartFraction,
    NoRetry,
    Stabilization,
    Standbys,
    duration,
    name,
    settings_from_options,
)
from turnwise.cli.output import clock, console, literal, rounded, table
from turnwise.cli.runner_file import read_runners
from turnwise.durations import format_duration
from turnwise.membership import (
    Cycle,
    RunnerRecord,
    cycle_at,
    schedule,
    stable_set,
    why_not_stable,
)
from turnwise.old_review import Level, Review
from turnwise.old_settings import Settings
from turnwise.timetable import Role, Slot, lay_out

_BAR_WIDTH = 72
_MOST_ROWS = 50
_LEVEL_STYLE = {Level.ERROR: "bold red", Level.WARNING: "yellow", Level.NOTE: "dim"}


@dataclass(frozen=True, slots=True)
class _Plan:
    """A cycle for a number of runners, or for the runners of a file at an instant."""

    cycle: Cycle
    slots: tuple[Slot, ...]
    sleeping: tuple[str, ...]
    outside: tuple[tuple[str, str], ...]
    at: datetime | None


def plan(
    *,
    runners: Annotated[
        str,
        typer.Option(
            "--runners",
            metavar="N|FILE.json",
            help="How many runners, or a JSON list of id, creation_time and last_heartbeat.",
        ),
    ],
    interval: Interval = DEFAULTS.interval,
    margin: Margin = None,
    heartbeat_timeout: HeartbeatTimeout = None,
    max_start_fraction: MaxStartFraction = DEFAULTS.max_start_slot_fraction,
    stabilization: Stabilization = DEFAULTS.membership_stabilization,
    every_slot: EverySlot = False,
    standbys: Standbys = DEFAULTS.standbys,
    no_retry: NoRetry = False,
    longest_run: Annotated[
        timedelta | None,
        typer.Option(
            "--longest-run", parser=duration, metavar="DURATION", help="The longest turn's time."
        ),
    ] = None,
    clock_skew: Annotated[
        timedelta,
        typer.Option(
            "--clock-skew",
            parser=duration,
            metavar="DURATION",
            show_default="0",
            help="The largest difference between two runners' own clocks.",
        ),
    ] = timedelta(0),
    service: Annotated[
        str,
        typer.Option("--service", parser=name, metavar="NAME", help="Whose rotation, with a file."),
    ] = "service",
    at: At = None,
    chart: ChartFile = None,
) -> int:
    """Show a cycle, the limits that the margin sets, and findings. Exit 1 for an error in them."""
    settings = settings_from_options(
        interval=interval,
        margin=margin,
        heartbeat_timeout=heartbeat_timeout,
        max_start_fraction=max_start_fraction,
        stabilization=stabilization,
        every_slot=every_slot,
        standbys=standbys,
        no_retry=no_retry,
    )
    if chart is not None:
        require_drawable(chart)
    if _is_number(runners):
        planned, count = _plan_for_number(int(runners), settings), int(runners)
    else:
        now = at or datetime.now(UTC)
        planned, count = _plan_for_records(read_runners(runners), service, now, settings)
    with settings_as_options():
        review = settings.review(
            runners=max(count, 1), longest_run=longest_run, clock_skew=clock_skew
        )
    _print_settings(settings, count)
    _print_cycle(planned, settings)
    if count == 0:
        console.print("\n[bold red]error[/]: nobody is in the stable set: nobody ever starts")
        return 1
    _print_review(review)
    if chart is not None:
        _draw(planned, settings, chart)
    return 1 if review.has_errors else 0


def _draw(planned: _Plan, settings: Settings, path: Path) -> None:
    from turnwise.chart import picture_of_plan  # noqa: PLC0415 (an extra)

    lanes = [slot.runner_id for slot in planned.slots] + list(planned.sleeping)
    left_out = len(lanes) - _MOST_ROWS
    title = "a cycle" + (f"; {left_out} more runners sleep" if left_out > 0 else "")
    slots = planned.slots[:_MOST_ROWS]
    console.print()
    write(picture_of_plan(slots, lanes[:_MOST_ROWS], settings, title=title), path)


def _is_number(text: str) -> bool:
    if not text.lstrip("-").isdecimal():
        return False
    if not text.isdecimal() or int(text) < 1 or len(text) > len("100000"):
        raise BadInput(f"--runners must be 1 to 999999, or a file, got {text}")
    return True


def _plan_for_number(count: int, settings: Settings) -> _Plan:
    """A cycle as anybody's: its first runner is whoever is primary then."""
    names = [f"runner {number}" for number in range(1, count + 1)]
    start = datetime(1970, 1, 1, tzinfo=UTC)
    cycle = Cycle(0, start, start + settings.interval)
    taking_part = names[: settings.slots(count)]
    slots = lay_out(taking_part, start, settings)
    return _Plan(cycle, slots, tuple(names[len(taking_part) :]), (), None)


def _plan_for_records(
    records: tuple[RunnerRecord, ...], service: str, now: datetime, settings: Settings
) -> tuple[_Plan, int]:
    cycle = cycle_at(now, settings.interval)
    stable = stable_set(records, cycle.start, settings)
    ids = [runner.runner_id for runner in schedule(stable, service, cycle, settings)]
    outside = (
        (record.runner_id, why)
        for record in records
        if (why := why_not_stable(record, cycle.start, settings)) is not None
    )
    slots = lay_out(ids, cycle.start, settings)
    sleeping = tuple(r.runner_id for r in stable if r.runner_id not in ids)
    return _Plan(cycle, slots, sleeping, tuple(outside), now), len(stable)


def _print_settings(settings: Settings, count: int) -> None:
    how = "one run in each cycle" if settings.runs_per_cycle == "once" else "one run in each slot"
    console.print(
        f"{count} stable runner{'' if count == 1 else 's'}, a cycle of "
        f"{format_duration(settings.interval)}, {how}\n"
        f"margin {rounded(settings.spread_margin)}, heartbeat timeout "
        f"{rounded(settings.heartbeat_timeout)}, start within the first "
        f"{settings.max_start_slot_fraction:.0%} of a slot\n"
    )


def _print_cycle(planned: _Plan, settings: Settings) -> None:
    if planned.at is not None:
        console.print(
            f"cycle {clock(planned.cycle.start)} to {clock(planned.cycle.end)} UTC, "
            f"at {clock(planned.at, planned.cycle.start)}\n"
        )
    rows = table("slot", "runner", "role", "from", "start until", "guard from", "to")
    for number, slot in enumerate(planned.slots[:_MOST_ROWS], 1):
        latest = slot.latest_start(settings.max_start_slot_fraction)
        edges = (slot.start, latest, slot.end, slot.guard_end)
        shown = (_edge(edge, planned) for edge in edges)
        rows.add_row(str(number), literal(slot.runner_id), str(slot.role), *shown)
    console.print(rows)
    if len(planned.slots) > _MOST_ROWS:
        console.print(f"... and {len(planned.slots) - _MOST_ROWS} slots more")
    if planned.slots:
        console.print()
        console.print(_bar(planned, settings), soft_wrap=True)
        console.print("# may start   - too late to start, may run   . guard time", style="dim")
    _print_names(planned.sleeping, f"{Role.SLEEPS} through this cycle")
    for runner_id, why in planned.outside:
        console.print(literal(f"not in the stable set: {runner_id}: {why}"))


def _edge(instant: datetime, planned: _Plan) -> str:
    if planned.at is None:
        return rounded(instant - planned.cycle.start)
    return clock(instant, planned.cycle.start).removesuffix(".000")


def _print_names(names: tuple[str, ...], what: str) -> None:
    few = 6
    if not names:
        return
    shown = ", ".join(names[:few])
    more = f" and {len(names) - few} more" if len(names) > few else ""
    verb = what if len(names) == 1 else what.replace("sleeps", "sleep", 1)
    console.print(literal(f"{shown}{more} {verb}"))


def _bar(planned: _Plan, settings: Settings) -> str:
    """The cycle in 72 characters; each shows what holds at its middle."""
    length = planned.cycle.end - planned.cycle.start
    bar = []
    for column in range(_BAR_WIDTH):
        # Rounded down, so that it is within the cycle, however short that is.
        instant = planned.cycle.start + length * (2 * column + 1) // (2 * _BAR_WIDTH)
        slot = next(slot for slot in planned.slots if slot.start <= instant < slot.guard_end)
        if instant >= slot.end:
            bar.append(".")
        elif instant > slot.latest_start(settings.max_start_slot_fraction):
            bar.append("-")
        else:
            bar.append("#")
    edges = {
        round((slot.start - planned.cycle.start) / length * _BAR_WIDTH): str(number)
        for number, slot in enumerate(planned.slots, 1)
    }
    ruler = ""
    for column, number in sorted(edges.items()):
        if column >= len(ruler) + (1 if ruler else 0):
            ruler = ruler.ljust(column) + number
    return f"{ruler}\n{''.join(bar)}"


def _print_review(review: Review) -> None:
    facts = table("what this promises", "")
    facts.add_row(
        "slot, and the part in which a turn may start",
        f"{rounded(review.slot)}, {rounded(review.window)}",
    )
    facts.add_row("most slots that the margin allows", f"{review.most_slots:,}")
    facts.add_row("part of the cycle in which nobody may start", f"{review.closed_share:.0%}")
    facts.add_row(
        "slots alone, without the gate, keep runs apart",
        {None: "not known", True: "yes", False: "no"}[review.overlap_excluded_by_time],
    )
    gaps = {
        "longest time from start to start, no fault": review.gap_without_fault,
        "the same, one runner dead": review.gap_with_one_dead,
        "from a kill in a turn to the next start": review.gap_after_kill,
    }
    nobody = "nobody ever starts" if review.gap_without_fault is None else "no other is left"
    for what, gap in gaps.items():
        facts.add_row(what, nobody if gap is None else rounded(gap))
    facts.add_row("a new runner counts after, at most", rounded(review.first_slot_delay))
    facts.add_row(
        "messages per cycle, all runners",
        f"{review.heartbeats_per_cycle:,} heartbeats, {review.looks_per_cycle:,} looks",
    )
    console.print()
    console.print(facts)
    console.print()
    for finding in review.findings:
        console.print(
            literal(f"{finding.level}: ").append(
                f"{finding.meaning}. To change it: {finding.change}."
            ),
            style=_LEVEL_STYLE[finding.level],
        )
    if not review.findings:
        console.print("no findings")
