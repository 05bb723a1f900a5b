"""``turnwise simulate``: a configuration under faults, in virtual time, with the shipped code."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from turnwise.backends import MissingExtraError
from turnwise.cli.chart import ChartFile, require_drawable, write
from turnwise.cli.errors import BadInput
from turnwise.cli.options import (
    DEFAULTS,
    EverySlot,
    HeartbeatTimeout,
    Interval,
    Json,
    Margin,
    MaxStartFraction,
    NoRetry,
    Stabilization,
    Standbys,
    duration,
    settings_from_options,
)
from turnwise.cli.output import console, literal, rounded, table
from turnwise.durations import format_duration
from turnwise.old_review import Review

if TYPE_CHECKING:
    from turnwise.simulation import Distribution, Fault, Result, Scenario
    from turnwise.simulation import Progress as Report

_ZERO = timedelta(0)
_MOST_DAYS = 3653
_CHARTED = 10_000
"""So many executions are kept where a chart is wanted, and the chart is of some of them."""


class JobSpread(StrEnum):
    """How a job's duration is distributed around ``--job``."""

    FIXED = "fixed"
    LOG_NORMAL = "log-normal"
    HEAVY_TAIL = "heavy-tail"


class Clock(StrEnum):
    """Whose clock decides."""

    STORAGE = "storage"
    LOCAL = "local"


def _not_for_ever(text: str) -> timedelta:
    """Read a duration that a simulation can add to its time."""
    lasts = duration(text)
    if lasts > timedelta(days=_MOST_DAYS):
        raise typer.BadParameter(f"must be at most {_MOST_DAYS}d, got {format_duration(lasts)}")
    return lasts


def _every(name: str, what: str) -> typer.models.OptionInfo:
    """An option for how often something goes wrong."""
    option: typer.models.OptionInfo = typer.Option(
        name, parser=_not_for_ever, metavar="DURATION", show_default="never", help=what
    )
    return option


def _lasts(name: str, default: str, what: str) -> typer.models.OptionInfo:
    """An option for how long something takes."""
    option: typer.models.OptionInfo = typer.Option(
        name, parser=_not_for_ever, metavar="DURATION", show_default=default, help=what
    )
    return option


def simulate(
    *,
    runners: Annotated[int, typer.Option("--runners", metavar="N", help="How many runners.")],
    interval: Interval = DEFAULTS.interval,
    margin: Margin = None,
    heartbeat_timeout: HeartbeatTimeout = None,
    max_start_fraction: MaxStartFraction = DEFAULTS.max_start_slot_fraction,
    stabilization: Stabilization = DEFAULTS.membership_stabilization,
    every_slot: EverySlot = False,
    standbys: Standbys = DEFAULTS.standbys,
    no_retry: NoRetry = False,
    job: Annotated[timedelta, _lasts("--job", "40s", "How long a turn takes.")] = timedelta(
        seconds=40
    ),
    job_spread: Annotated[
        JobSpread,
        typer.Option("--job-spread", help="How durations vary; the longest is ten jobs."),
    ] = JobSpread.FIXED,
    crash_every: Annotated[
        timedelta | None, _every("--crash-every", "Each runner is killed so often, on average.")
    ] = None,
    crash_lasts: Annotated[
        timedelta, _lasts("--crash-lasts", "1m", "After a crash, until another has its place.")
    ] = timedelta(minutes=1),
    pause_every: Annotated[
        timedelta | None, _every("--pause-every", "Each runner is suspended so often.")
    ] = None,
    pause_lasts: Annotated[
        timedelta, _lasts("--pause-lasts", "10s", "How long, on average.")
    ] = timedelta(seconds=10),
    outage_every: Annotated[
        timedelta | None, _every("--outage-every", "The storage is gone so often.")
    ] = None,
    outage_lasts: Annotated[
        timedelta, _lasts("--outage-lasts", "1m", "How long, on average.")
    ] = timedelta(minutes=1),
    deploy_every: Annotated[
        timedelta | None, _every("--deploy-every", "All runners are replaced so often.")
    ] = None,
    deploy_step: Annotated[
        timedelta, _lasts("--deploy-step", "10s", "Time between two replacements.")
    ] = timedelta(seconds=10),
    fail_every: Annotated[
        timedelta | None, _every("--fail-every", "A turn fails so often.")
    ] = None,
    latency: Annotated[
        timedelta, _lasts("--latency", "0", "A message's way to the storage, or back, at most.")
    ] = _ZERO,
    clock: Annotated[
        Clock, typer.Option("--clock", help="local: each its own, no gate. Slots alone.")
    ] = Clock.STORAGE,
    clock_skew: Annotated[
        timedelta, _lasts("--clock-skew", "0", "The largest difference between two clocks.")
    ] = _ZERO,
    days: Annotated[float, typer.Option("--days", metavar="N", help="How long, in its time.")] = 1,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Where chance begins.")] = 0,
    as_json: Json = False,
    chart: ChartFile = None,
) -> int:
    """Play days of faults with the shipped code. Exit 1 where what may never happen has."""
    if not 0 < days <= _MOST_DAYS:
        raise BadInput(f"--days must be over 0 and at most {_MOST_DAYS}, got {days:g}")
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
        # What is to be drawn must be there at the end: by default an hour is kept.
        settings = replace(settings, retention_age=timedelta(days=days), retention_count=_CHARTED)
    kinds = {
        "crash": (crash_every, crash_lasts),
        "pause": (pause_every, pause_lasts),
        "outage": (outage_every, outage_lasts),
        "deploy": (deploy_every, deploy_step),
        "failure": (fail_every, _ZERO),
    }
    _require_simulation()
    from turnwise.simulation import Fixed, Scenario, Uniform  # noqa: PLC0415 (an extra)

    try:
        scenario = Scenario(
            settings=settings,
            runners=runners,
            job=_job(job, job_spread),
            faults=_faults(kinds),
            duration=timedelta(days=days),
            latency=Uniform(_ZERO, latency) if latency else Fixed(_ZERO),
            clock=_CLOCKS[clock],
            clock_skew=clock_skew,
            seed=seed,
        )
    except ValueError as error:
        raise BadInput(_as_options(str(error))) from error
    result = _play(scenario)
    review = settings.review(runners=runners, longest_run=scenario.job.most, clock_skew=clock_skew)
    if as_json:
        print(json.dumps(json.loads(result.to_json()), indent=2))  # noqa: T201
    else:
        _print(result, review)
    if chart is not None:
        _draw(result, chart, quiet=as_json)
    return 1 if result.violation_count else 0


def _draw(result: "Result", path: Path, *, quiet: bool) -> None:
    """Draw the cycles around the longest gap: of days, nothing could be seen."""
    from turnwise.chart import picture_of_history, window_of_interest  # noqa: PLC0415 (an extra)

    if not result.history:
        raise BadInput(f"{path}: nothing ran, so there is nothing to draw")
    settings = result.scenario.settings
    start, end = window_of_interest(result.history, settings)
    title = f"simulated, seed {result.scenario.seed}, a part of {result.cycles:,} cycles"
    picture = picture_of_history(result.history, settings, start, end, title=title)
    if not quiet:
        console.print()
    write(picture, path, quiet=quiet)


_CLOCKS: dict[Clock, Literal["storage", "local"]] = {
    Clock.STORAGE: "storage",
    Clock.LOCAL: "local",
}


def _require_simulation() -> None:
    try:
        import turnwise.simulation  # noqa: F401, PLC0415 (an extra)
    except MissingExtraError as error:
        raise BadInput(str(error)) from error


def _as_options(message: str) -> str:
    for name, option in (
        ("runners must", "--runners must"),
        ("duration must", "--days must"),
        ("clock_skew must", "--clock-skew must"),
    ):
        if message.startswith(name):
            return option + message.removeprefix(name)
    return message


def _job(job: timedelta, spread: JobSpread) -> "Distribution":
    from turnwise.simulation import Fixed, HeavyTail, LogNormal  # noqa: PLC0415 (an extra)

    if spread is JobSpread.LOG_NORMAL:
        return LogNormal(job, 0.5, 10 * job)
    if spread is JobSpread.HEAVY_TAIL:
        return HeavyTail(job, 1.5, 10 * job)
    return Fixed(job)


def _faults(kinds: dict[str, tuple[timedelta | None, timedelta]]) -> "tuple[Fault, ...]":
    from turnwise.simulation import Fault, FaultKind, Fixed, Uniform  # noqa: PLC0415 (an extra)

    faults = []
    for name, (every, lasts) in kinds.items():
        if every is None:
            continue
        if every <= _ZERO:
            option = "--fail-every" if name == "failure" else f"--{name}-every"
            raise BadInput(f"{option} must be positive, got {format_duration(every)}")
        varies = name in ("pause", "outage")
        how_long = Uniform(_ZERO, 2 * lasts) if varies else Fixed(lasts)
        faults.append(Fault(FaultKind(name), every, how_long))
    return tuple(faults)


def _play(scenario: "Scenario") -> "Result":
    from turnwise.simulation import simulate as play  # noqa: PLC0415 (an extra)

    with _progress() as report:
        return play(scenario, progress=report)


@contextmanager
def _progress() -> "Iterator[Report | None]":
    """A bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("simulating"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda done: bar.update(task, completed=done)


def _print(result: "Result", review: Review) -> None:
    scenario = result.scenario
    clocks = "" if scenario.clock == "storage" else ", each by its own clock, without a gate"
    console.print(
        f"{scenario.runners} runner{'' if scenario.runners == 1 else 's'} for "
        f"{format_duration(scenario.duration)}, seed {scenario.seed}{clocks}\n"
    )
    console.print(_figures(result))
    console.print()
    console.print(_gaps(result, review))
    if result.executions or result.incidents:
        console.print()
        console.print(_counts(result))
    console.print()
    for violation in result.violations:
        console.print(literal(f"violated: {violation}"), style="bold red")
    if result.violation_count:
        return
    if scenario.clock == "local":
        console.print("slots alone promise less: what overlapped is counted, and no violation")
    else:
        console.print("nothing that may never happen has happened")


def _figures(result: "Result") -> object:
    rows = table("what came of it", "")
    rows.add_row("turns", f"{result.turns:,}")
    gated = result.scenario.clock == "storage"  # else nobody counts cycles
    if gated:
        rows.add_row("cycles served", f"{result.cycles_served:,} of {result.cycles:,}")
        rows.add_row("cycles missed", f"{result.cycles_missed:,}")
    rows.add_row("turns that began while another was at work", f"{result.overlaps:,}")
    rows.add_row("late writes that the fencing token refused", f"{result.refused_writes:,}")
    if gated:
        rows.add_row(
            "requests to the storage per cycle, all runners", f"{result.operations_per_cycle:,.1f}"
        )
    shares = list(result.turns_of_runner.values())
    rows.add_row("turns of a runner, least and most", f"{min(shares):,} and {max(shares):,}")
    return rows


def _gaps(result: "Result", review: Review) -> object:
    rows = table("from start to start", "median", "99 of 100", "longest", "promised")
    gaps, failovers = result.gaps, result.failovers
    without, one_dead = review.gap_without_fault, review.gap_with_one_dead
    promised = f"{_shown(without, 'none')}, one dead: {_shown(one_dead, 'none')}"
    for name, spread, limit in (
        ("between two turns", gaps, promised),
        (f"after a kill in a turn ({failovers.count:,})", failovers, _shown(review.gap_after_kill)),
    ):
        shown = (_shown(gap) for gap in (spread.median, spread.of_99_in_100, spread.most))
        rows.add_row(name, *shown, limit)
    return rows


def _shown(gap: timedelta | None, instead: str = "") -> str:
    return instead if gap is None else rounded(gap)


def _counts(result: "Result") -> object:
    rows = table("executions and faults", "")
    for name, count in result.executions.items():
        rows.add_row(literal(name.replace(":", " ", 1)), f"{count:,}")
    for name, count in result.incidents.items():
        rows.add_row(literal(f"fault: {name.replace('_', ' ')}"), f"{count:,}")
    return rows
