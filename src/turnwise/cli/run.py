"""``turnwise run``: a command in this runner's turns."""

import logging
import queue
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer

from turnwise.cli.child import Child, Children
from turnwise.cli.errors import BadInput
from turnwise.cli.logs import log_to_stderr
from turnwise.cli.options import (
    DEFAULT_GRACE,
    DEFAULT_GROUP,
    Grace,
    Group,
    LogFormat,
    LogLevel,
    RunnerId,
    Service,
    StorageUrl,
    option,
)
from turnwise.cli.programs import why_no_program
from turnwise.cli.service_options import takes_settings
from turnwise.cli.serving import knobs_of, mind_signals, next_wish, start, try_storage
from turnwise.cli.storage import url_in_force
from turnwise.errors import TurnFailedError
from turnwise.gate import STOPPED
from turnwise.names import printable
from turnwise.scheduler import Scheduler
from turnwise.settings import Settings
from turnwise.turn import Turn

if TYPE_CHECKING:
    from turnwise.observers.ping import Ping

_log = logging.getLogger("turnwise.run")

NO_TURN: Final = 75
"""The exit status of ``--once --no-wait`` where there is no turn now (EX_TEMPFAIL)."""

EXAMPLES: Final = {
    "run": """\
Every five minutes, by one of all the machines that run this line:
  turnwise run --storage postgresql://app@db/app --service tidy-up \\
      --every 5m --timeout 2m -- ./tidy-up.sh

At three in the morning in Vienna, with the storage from the environment:
  export TURNWISE_STORAGE=redis://cache:6379/0
  turnwise run --service report --cron '0 3 * * *' \\
      --timezone Europe/Vienna -- ./report.sh --yesterday

From a crontab of several machines, by one of them:
  * * * * * turnwise run --service mail --every 1m --once --no-wait -- ./mail
"""
}


CommandToRun = Annotated[list[str], typer.Argument(metavar="COMMAND [ARG]...", help="What to run.")]
Once = Annotated[
    bool, option("--once", help="Wait for one turn, run, and exit with the command's status.")
]
NoWait = Annotated[
    bool,
    option(
        "--no-wait",
        help=f"With --once: run if it is this runner's turn now, else exit with {NO_TURN}.",
    ),
]
PingUrl = Annotated[
    str | None,
    option(
        "--ping-url",
        metavar="URL",
        envvar="TURNWISE_PING_URL",
        default="$TURNWISE_PING_URL, or none",
        help="Send each start to URL/start, each success to URL, and each failure to "
        "URL/fail, as dead man's switches such as healthchecks.io take them. One with a "
        "secret belongs into the environment.",
    ),
]


@takes_settings
def run(
    command: CommandToRun,
    *,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    service: Service,
    runner_id: RunnerId = None,
    once: Once = False,
    no_wait: NoWait = False,
    grace: Grace = DEFAULT_GRACE,
    ping_url: PingUrl = None,
    log_format: LogFormat = "text",
    log_level: LogLevel = "info",
    settings: Settings,
) -> int:
    """Run a command in this runner's turns, until SIGTERM, SIGINT or SIGHUP.

    Start the same line on every machine. Each time the service is due, one of them runs the
    command; when that one dies, the next in line does. A new service is due for the first time at
    the first due instant after its first start.

    The command finds its turn in TURNWISE_SERVICE, TURNWISE_GROUP, TURNWISE_RUNNER_ID,
    TURNWISE_RUN_ID, TURNWISE_FENCING_TOKEN, TURNWISE_ATTEMPT, and, as instants in UTC, in
    TURNWISE_DUE, TURNWISE_LAST_SERVED (empty where nothing was served before),
    TURNWISE_SLOT_START and TURNWISE_SLOT_END. Where it exits with another status than 0, the run
    has failed, and the next attempt follows.
    """
    if no_wait and not once:
        raise BadInput("--no-wait goes with --once: without it, turnwise run waits for each turn")
    if grace < timedelta(0):
        raise BadInput("--grace must be 0 or more")
    why_not = why_no_program(command[0])
    if why_not is not None:
        raise BadInput(why_not)
    pings = _pings(service, ping_url)
    url = url_in_force(storage)
    log_to_stderr(form=log_format, level=log_level)
    children = Children()
    child = Child(
        command,
        timeout=settings.timeout,
        grace=grace,
        heartbeat_timeout=settings.heartbeat_timeout,
        children=children,
    )
    try_storage(url)
    scheduler = Scheduler(
        url,
        group=group,
        runner_id=runner_id,
        observers=pings,
        wait_for_storage=not no_wait,
        grace=grace,
    )
    turns = _Turns(scheduler, child, is_once=once)
    function = None if no_wait else turns.take
    scheduler.add(function, settings.schedule, name=service, **knobs_of(settings))
    mind_signals(children, stop=turns.request_stop)
    try:
        return turns.take_one_now(service) if no_wait else turns.serve()
    finally:
        for ping in pings:
            ping.close()


def _pings(service: str, url: str | None) -> "tuple[Ping, ...]":
    """What pings a service's switch, where it has one."""
    if not url:
        return ()
    from turnwise.observers.ping import Ping  # noqa: PLC0415 (it loads what speaks HTTP)

    try:
        return (Ping({service: url}),)
    except ValueError as error:
        raise BadInput(f"--ping-url: {error}") from None


class _Turns:
    """The turns of one command: all that come, or one."""

    def __init__(self, scheduler: Scheduler, child: Child, *, is_once: bool) -> None:
        self._scheduler, self._child, self._is_once = scheduler, child, is_once
        self._has_served = False
        # A SimpleQueue, because its put() is safe in a signal handler that interrupts its get().
        self._stops: queue.SimpleQueue[None] = queue.SimpleQueue()

    def take(self, turn: Turn) -> None:
        """Run the command in a turn; with ``--once`` in the first one alone."""
        if self._is_once and self._has_served:
            raise TurnFailedError(STOPPED)
        self._has_served = True
        try:
            self._child(turn)
        finally:
            if self._is_once:
                self._stops.put(None)

    def request_stop(self) -> None:
        """Serve no turn any more. Safe in a signal handler."""
        self._stops.put(None)

    def serve(self) -> int:
        """Serve until a signal comes, or one turn was served; the exit status."""
        start(self._scheduler)
        try:
            next_wish(self._stops, self._scheduler)
        finally:
            self._scheduler.stop()  # the child has its own grace
        return self._child.last_status if self._is_once else 0

    def take_one_now(self, service: str) -> int:
        """Run the command if it is this runner's turn; the exit status."""
        start(self._scheduler)
        try:
            with self._scheduler.turn(service) as turn:
                if turn is None:
                    _log.info("%s: it is not this runner's turn", printable(service))
                    return NO_TURN
                self._child(turn)
        except TurnFailedError:
            return self._child.last_status or 1
        finally:
            self._scheduler.stop()
        return self._child.last_status
