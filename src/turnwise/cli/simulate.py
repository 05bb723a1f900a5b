"""``turnwise simulate``: days of faults in seconds, with the machine and the rules that ship."""

import json
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from turnwise.cli.chart import ChartFile, require_drawable, write
from turnwise.cli.errors import BadInput, settings_as_options
from turnwise.cli.given import duration, fraction, whole_number
from turnwise.cli.options import Json, option
from turnwise.cli.output import console, literal, print_json, rounded, table
from turnwise.cli.schedule import takes_schedule_argument
from turnwise.cli.service_options import takes_settings
from turnwise.cli.together import Coincidence, coincidences
from turnwise.durations import format_duration
from turnwise.review import Review, review
from turnwise.settings import Settings
from turnwise.simulation import (
    Distribution,
    Fault,
    FaultKind,
    Fixed,
    HeavyTail,
    LogNormal,
    Result,
    Scenario,
    Uniform,
)
from turnwise.simulation import simulate as play
from turnwise.texts import row_from_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from turnwise.simulation import Progress as Report

_ZERO = timedelta(0)
_MOST_DAYS = 3653
_KEPT = 1_000_000
"""So many rows of the history are kept, so that what took long can be looked up."""
_SHOWN = 5
_FAULTS = "What goes wrong"

EXAMPLES = {
    "simulate": """\
turnwise simulate 'every 5m' --runners 12 --crash-every 2d --days 7
turnwise simulate 'cron 0 3 * * *' --runners 6 --job 20m --deploy-every 1d \\
    --kill-in-turn-every 7d --days 365
""",
}


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
        raise BadInput(f"{text} is too long: at most {_MOST_DAYS}d can be simulated")
    return lasts


def _span(flag: str, said: str, default: str, panel: str | None = _FAULTS) -> Any:
    return option(
        flag, parser=_not_for_ever, metavar="DURATION", default=default, help=said, panel=panel
    )


Runners = Annotated[
    int, option("--runners", parser=whole_number, help="How many runners there are.")
]
JobLength = Annotated[timedelta, _span("--job", "How long a run takes.", "40s", None)]
Spread = Annotated[
    JobSpread,
    option(
        "--job-spread",
        metavar="|".join(JobSpread),
        default="fixed",
        help="How the durations of runs vary around --job; the longest takes ten times that.",
    ),
]
Days = Annotated[
    float,
    option("--days", parser=fraction, metavar="N", default="1", help="How much time to simulate."),
]
Seed = Annotated[
    int,
    option(
        "--seed",
        parser=whole_number,
        default="0",
        help="Where chance begins: the same seed has the same result, anywhere.",
    ),
]
CrashEvery = Annotated[
    timedelta | None, _span("--crash-every", "Mean time between two kills of each runner.", "never")
]
CrashLasts = Annotated[
    timedelta, _span("--crash-lasts", "How long until another is in its place.", "1m")
]
KillEvery = Annotated[
    timedelta | None,
    _span("--kill-in-turn-every", "Mean time between two kills of who is at work.", "never"),
]
SuspendEvery = Annotated[
    timedelta | None,
    _span("--suspend-every", "Mean time between two stops of each runner.", "never"),
]
SuspendLasts = Annotated[
    timedelta, _span("--suspend-lasts", "How long a runner is stopped, on average.", "10s")
]
OutageEvery = Annotated[
    timedelta | None,
    _span("--outage-every", "Mean time between two outages of the storage.", "never"),
]
OutageLasts = Annotated[
    timedelta, _span("--outage-lasts", "How long an outage takes, on average.", "1m")
]
DeployEvery = Annotated[
    timedelta | None,
    _span("--deploy-every", "Mean time between two replacements of all runners.", "never"),
]
DeployStep = Annotated[
    timedelta, _span("--deploy-step", "Time from one replacement to the next.", "10s")
]
FailEvery = Annotated[
    timedelta | None, _span("--fail-every", "Mean time between two runs that fail.", "never")
]
Latency = Annotated[timedelta, _span("--latency", "The longest way to the storage, or back.", "0s")]
WhoseClock = Annotated[
    Clock,
    option(
        "--clock",
        metavar="|".join(Clock),
        default="storage",
        help="local: each runner goes by its own clock, and no gate keeps them apart.",
        panel=_FAULTS,
    ),
]
ClockSkew = Annotated[
    timedelta, _span("--clock-skew", "The largest difference between two clocks.", "0s")
]


@takes_schedule_argument
@takes_settings
def simulate(
    *,
    runners: Runners,
    job: JobLength = timedelta(seconds=40),
    job_spread: Spread = JobSpread.FIXED,
    days: Days = 1,
    seed: Seed = 0,
    settings: Settings,
    crash_every: CrashEvery = None,
    crash_lasts: CrashLasts = timedelta(minutes=1),
    kill_in_turn_every: KillEvery = None,
    suspend_every: SuspendEvery = None,
    suspend_lasts: SuspendLasts = timedelta(seconds=10),
    outage_every: OutageEvery = None,
    outage_lasts: OutageLasts = timedelta(minutes=1),
    deploy_every: DeployEvery = None,
    deploy_step: DeployStep = timedelta(seconds=10),
    fail_every: FailEvery = None,
    latency: Latency = _ZERO,
    clock: WhoseClock = Clock.STORAGE,
    clock_skew: ClockSkew = _ZERO,
    as_json: Json = False,
    chart: ChartFile = None,
) -> int:
    """Play days of faults with the code that ships, and see what comes of it.

    Exit status 1 where something happened that may never happen. A missed period is none of that:
    it is counted, with its cause.
    """
    if not 0 < days <= _MOST_DAYS:
        raise BadInput(f"--days must be over 0 and at most {_MOST_DAYS:,}, got {days:g}")
    if chart is not None:
        require_drawable(chart)
    lasting = timedelta(days=days)
    kinds: dict[str, tuple[FaultKind, timedelta | None, timedelta]] = {
        "--crash-every": (FaultKind.CRASH, crash_every, crash_lasts),
        "--kill-in-turn-every": (FaultKind.KILL_IN_TURN, kill_in_turn_every, crash_lasts),
        "--suspend-every": (FaultKind.SUSPEND, suspend_every, suspend_lasts),
        "--outage-every": (FaultKind.OUTAGE, outage_every, outage_lasts),
        "--deploy-every": (FaultKind.DEPLOY, deploy_every, deploy_step),
        "--fail-every": (FaultKind.FAILURE, fail_every, _ZERO),
    }
    faults = _faults(kinds)
    age = max(settings.retention_age, lasting)
    try:
        with settings_as_options():
            scenario = Scenario(
                settings=replace(settings, retention_age=age, retention_count=_KEPT),
                runners=runners,
                job=_job(job, job_spread),
                faults=faults,
                duration=lasting,
                latency=Uniform(_ZERO, latency) if latency else Fixed(_ZERO),
                clock="storage" if clock is Clock.STORAGE else "local",
                clock_skew=clock_skew,
                seed=seed,
            )
            promised = review(
                settings, runners=runners, longest_run=scenario.job.most, clock_skew=clock_skew
            )
    except BadInput as error:
        raise BadInput(_as_options(str(error))) from error
    with _progress() as report:
        result = play(scenario, progress=report)
    found = coincidences(result, promised)
    if as_json:
        told = json.loads(result.to_json())
        print_json(told | {"took_longer_than_one_fault": [each.as_json() for each in found]})
    else:
        _print(result, promised, found)
    if chart is not None:
        _draw(result, chart, quiet=as_json)
    return 1 if result.violation_count else 0


def _as_options(message: str) -> str:
    for setting, flag in (
        ("runners must", "--runners must"),
        ("duration must", "--days must"),
    ):
        if message.startswith(setting):
            return flag + message.removeprefix(setting)
    return message


def _job(job: timedelta, spread: JobSpread) -> Distribution:
    if spread is JobSpread.LOG_NORMAL:
        return LogNormal(job, 0.5, 10 * job)
    if spread is JobSpread.HEAVY_TAIL:
        return HeavyTail(job, 1.5, 10 * job)
    return Fixed(job)


def _faults(
    kinds: dict[str, tuple[FaultKind, timedelta | None, timedelta]],
) -> tuple[Fault, ...]:
    faults = []
    for flag, (kind, every, lasts) in kinds.items():
        if every is None:
            continue
        if every <= _ZERO:
            raise BadInput(f"{flag} must be positive, got {format_duration(every)}")
        varies = kind in (FaultKind.SUSPEND, FaultKind.OUTAGE)
        how_long = Uniform(_ZERO, 2 * lasts) if varies else Fixed(lasts)
        faults.append(Fault(kind, every, how_long))
    return tuple(faults)


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


# What came of it ----------------------------------------------------------------------------------


def _print(result: Result, promised: Review, found: list[Coincidence]) -> None:
    scenario = result.scenario
    console.print(literal(_head(scenario)))
    for part in (_figures(result), _gaps(result, promised)):
        console.print()
        console.print(part)
    if result.executions or result.incidents:
        console.print()
        console.print(_counts(result))
    console.print()
    _print_missed(result)
    _print_coincidences(found)
    for violation in result.violations:
        console.print(literal(f"violated: {violation}"), style="bold red")
    if result.violation_count:
        return
    if scenario.clock == "local":
        console.print("slots alone promise less: what overlapped is counted, and no violation")
    else:
        console.print("nothing that may never happen has happened")


def _head(scenario: Scenario) -> str:
    clocks = "" if scenario.clock == "storage" else ", each by its own clock, without a gate"
    count = f"{scenario.runners:,} runner{'' if scenario.runners == 1 else 's'}"
    lasts = format_duration(scenario.duration)
    return f"{scenario.settings.schedule}, {count} for {lasts}, seed {scenario.seed}{clocks}"


def _figures(result: Result) -> Table:
    rows = table("what came of it", "")
    rows.add_row("runs", f"{result.turns:,}")
    gated = result.scenario.clock == "storage"  # else nobody counts periods
    if gated:
        rows.add_row("periods served", f"{result.periods_served:,} of {result.periods:,}")
        rows.add_row("periods missed", f"{result.periods_missed:,}")
    rows.add_row("runs that began while another was at work", f"{result.overlaps:,}")
    rows.add_row("late writes that the fencing token refused", f"{result.refused_writes:,}")
    if gated:
        rows.add_row(
            "requests to the storage in a period, all runners",
            f"{result.operations_per_period:,.1f}",
        )
    shares = list(result.turns_of_runner.values())
    rows.add_row("runs of a runner, least and most", f"{min(shares):,} and {max(shares):,}")
    return rows


def _gaps(result: Result, promised: Review) -> Table:
    rows = table("from start to start", "median", "99 of 100", "longest", "promised")
    without, one_dead = promised.gap_without_fault, promised.gap_with_one_dead
    limits = f"{_shown(without, 'none')}, one dead: {_shown(one_dead, 'none')}"
    for said, spread, limit in (
        ("between two runs", result.gaps, limits),
        (
            f"after a kill in a run ({result.failovers.count:,})",
            result.failovers,
            _shown(promised.gap_after_kill),
        ),
    ):
        shown = (_shown(gap) for gap in (spread.median, spread.of_99_in_100, spread.most))
        rows.add_row(said, *shown, limit)
    return rows


def _shown(gap: timedelta | None, instead: str = "") -> str:
    return instead if gap is None else rounded(gap)


def _counts(result: Result) -> Table:
    rows = table("executions and faults", "")
    for said, count in result.executions.items():
        rows.add_row(literal(said.replace(":", " ", 1)), f"{count:,}")
    for said, count in result.incidents.items():
        rows.add_row(literal(f"fault: {said.replace('_', ' ')}"), f"{count:,}")
    return rows


def _print_missed(result: Result) -> None:
    if not result.missed:
        return
    causes = ", ".join(f"{count:,} {cause}" for cause, count in result.causes.items())
    console.print(literal(f"missed: {causes}"))
    for due, cause in result.missed[:_SHOWN]:
        console.print(literal(f"  {due:%Y-%m-%d %H:%M:%S}: {cause}"))
    if len(result.missed) > _SHOWN:
        console.print(f"  and {len(result.missed) - _SHOWN:,} more")
    console.print()


def _print_coincidences(found: list[Coincidence]) -> None:
    """What took longer than one fault may cost, and which faults fell together there."""
    if not found:
        return
    console.print(f"longer than one fault may cost: {len(found):,}, the longest first")
    for each in found[:_SHOWN]:
        console.print(literal(f"  {each}"))
    if len(found) > _SHOWN:
        console.print(f"  and {len(found) - _SHOWN:,} more")
    console.print()


def _draw(result: Result, path: Path, *, quiet: bool) -> None:
    """Draw the periods around the longest gap: of days, nothing could be seen."""
    from turnwise.chart import picture_of_history, window_of_interest  # noqa: PLC0415 (an extra)

    if not result.history:
        raise BadInput(f"{path}: nothing ran, so there is nothing to draw")
    settings = result.scenario.settings
    rows = [row_from_text(entry.body) for entry in result.history]
    start, end = window_of_interest(rows, settings)
    title = f"simulated, seed {result.scenario.seed}, a part of {result.periods:,} periods"
    picture = picture_of_history(rows, settings, start, end, title=title)
    if not quiet:
        console.print()
    write(picture, path, quiet=quiet)
