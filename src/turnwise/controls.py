"""What an operator does to a service or a runner: pause, resume, trigger, drain, forget.

Each command changes a record in one step, as everything else does, so that it holds whoever is
suspended meanwhile: a paused service starts no turn after :meth:`Controls.pause` has returned,
because it is the gate that refuses. Each command advances the group's revision, so that every
runner notices it with its next heartbeat, and is kept in the history with who, when and why: in
the service's, or, where a runner is drained or something is forgotten, in that of the group itself
(:data:`~turnwise.storages.GROUP_ITSELF`), which outlives both and keeps its newest 1,000 rows.
"""

import getpass
import socket
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from turnwise import gate as gates
from turnwise.cycles import instant, microseconds
from turnwise.durations import format_duration
from turnwise.errors import BusyError, StillAliveError
from turnwise.gate import Command, CommandName, Execution, Gate
from turnwise.machine import owner_of
from turnwise.names import checked_name, checked_reason, random_name
from turnwise.storages import GROUP_ITSELF, Entry, Kind, Record, RunnerRow, Storage
from turnwise.texts import gate_from_text, gate_to_text, row_from_text, row_to_text

ALIVE_WITHIN = 3
"""Heartbeat timeouts of silence after which nobody is taken for alive, who may merely be slow."""

_TRIES = 100
_ROWS_OF_THE_GROUP = 1000
_SECONDS_BETWEEN_LOOKS = 0.2


def operator() -> str:
    """Who gives a command, where nothing else is said: the user and the host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


class Controls:
    """An operator's commands to one group.

    Args:
        storage: the group's storage.
        group: the group's name.
        by: who gives the commands, as the history shall have it; the user and the host by default.

    Every method raises :class:`~turnwise.errors.StorageError` where the storage does not answer;
    whether the command was carried out is not known then, and it is safe to give it again.
    """

    def __init__(self, storage: Storage, group: str = "default", *, by: str | None = None) -> None:
        self._storage = storage
        self.group = checked_name("group", group)
        self.by = checked_reason(operator() if by is None else by)

    def pause(
        self, service: str, *, reason: str = "", until: datetime | timedelta | None = None
    ) -> Gate:
        """Let no turn of the service start any more; one that is at work goes on.

        A pause of a service that is paused takes the place of the earlier one; the same one, for
        the same reason and until the same instant, leaves it as it is.

        Args:
            service: the service's name.
            reason: why, for the history.
            until: when the pause ends by itself: an instant, aware of its zone, or how long from
                now, by the storage's clock; None for until it is resumed.

        Returns:
            The gate, as it is now; ``pause`` says until when, ``open`` which run is at work.

        Raises:
            ValueError: ``until`` is not in the future, or has no zone.
            BusyError: others changed the gate again and again, or a transaction has it
                locked; try again.
        """
        said = checked_reason(reason)

        def paused(gate: Gate, now: int, name: str) -> Gate:
            end = _end(until, now)
            if gate.pause is not None and (gate.pause.reason, gate.pause.until) == (said, end):
                return gate
            return gates.pause(gate, id=name, now=now, by=self.by, reason=said, until=end)

        return self._change(service, paused)[1]

    def resume(self, service: str, *, reason: str = "") -> bool:
        """End a pause; whether there was one. A service that is not paused stays as it is.

        Raises:
            BusyError: others changed the gate again and again, or a transaction has it
                locked; try again.
        """
        said = checked_reason(reason)
        before, _ = self._change(
            service,
            lambda gate, now, name: gates.resume(gate, id=name, now=now, by=self.by, reason=said),
        )
        return before.pause is not None

    def trigger(self, service: str, *, reason: str = "") -> str:
        """Have the service run once, as soon as somebody has a slot; answer the trigger's id.

        It runs whether its period is served or not, and while it is paused it waits. A trigger
        while one waits is the same trigger.

        Raises:
            BusyError: others changed the gate again and again, or a transaction has it
                locked; try again.
        """
        said = checked_reason(reason)
        _, changed = self._change(
            service,
            lambda gate, now, name: gates.trigger(gate, id=name, now=now, by=self.by, reason=said),
        )
        assert changed.trigger is not None  # noqa: S101 (just made, or there before)
        return changed.trigger.id

    def wait_for(
        self,
        service: str,
        trigger: str,
        *,
        timeout: float | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Execution | None:
        """Wait for the run of a trigger to end, and answer how.

        A run that was stopped, was not started or had no margin is none: the trigger waits on,
        unless it gave way to another trigger meanwhile. Then that run is the end.

        Args:
            service: the service's name.
            trigger: the trigger's id.
            timeout: seconds to wait; None for as long as it takes.
            sleep: waits so many seconds between two looks.

        Returns:
            How the run ended; None where the time is up, or the service was forgotten meanwhile.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            gate = self._gate(service)
            if gate is None:
                return None
            if not _is_ahead(gate, trigger):
                ended = self._run_of(service, gate, trigger)
                if ended is not None:
                    return ended
            if end is not None and time.monotonic() >= end:
                return None
            sleep(_SECONDS_BETWEEN_LOOKS)

    def drain(self, runner_id: str, *, reason: str = "") -> bool:
        """Let a runner take no new turn; what it is in goes on. Whether it was not drained yet."""
        return self._mark(CommandName.DRAIN, runner_id, reason, drained=True)

    def undrain(self, runner_id: str, *, reason: str = "") -> bool:
        """Let a runner take turns again; whether it was drained."""
        return self._mark(CommandName.UNDRAIN, runner_id, reason, drained=False)

    def _mark(self, command: CommandName, runner_id: str, reason: str, *, drained: bool) -> bool:
        """Mark a runner in any case, and tell it where that has changed something."""
        lives = [row for row in self._storage.runners(self.group) if row.runner_id == runner_id]
        self._storage.mark(self.group, checked_name("runner_id", runner_id), drained=drained)
        if lives and all(row.drained is drained for row in lives):
            return False
        self._tell(command, runner_id, reason)
        return True

    def forget_service(self, service: str, *, force: bool = False, reason: str = "") -> None:
        """Forget a service: its records, its history, and who offers it.

        Args:
            service: the service's name.
            force: whether to do so although a runner that offers it lives.
            reason: why, for the group's own history.

        Raises:
            StillAliveError: a runner that offers it lives, and ``force`` is False.
        """
        offering = {
            (row.offer.runner_id, row.offer.boot_id)
            for row in self._storage.offers(self.group)
            if row.offer.service == service
        }
        self._refuse_living(
            f"service {service!r}", lambda row: (row.runner_id, row.boot_id) in offering, force
        )
        self._storage.forget_service(self.group, checked_name("service", service))
        self._storage.advance(self.group)
        self._tell(CommandName.FORGET_SERVICE, service, reason)

    def forget_runner(self, runner_id: str, *, force: bool = False, reason: str = "") -> None:
        """Forget a runner: all its lives, what they offer, and whether it is drained.

        Raises:
            StillAliveError: it lives, and ``force`` is False.
        """
        self._refuse_living(f"runner {runner_id!r}", lambda row: row.runner_id == runner_id, force)
        self._storage.forget_runner(self.group, runner_id)
        self._storage.advance(self.group)
        self._tell(CommandName.FORGET_RUNNER, runner_id, reason)

    def _tell(self, name: CommandName, of: str, reason: str) -> None:
        """Keep a row in the history of the group itself."""
        now, said = self._storage.read(self.group, ()).now, checked_reason(reason)
        row = Command(id=random_name(), name=name, at=now, by=self.by, reason=said, of=of)
        entry = Entry(row.id, row.at, row.kind, row_to_text(row))
        self._storage.append(self.group, GROUP_ITSELF, [entry])
        self._storage.purge(self.group, GROUP_ITSELF, before=0, keep=_ROWS_OF_THE_GROUP)

    def _refuse_living(
        self,
        what: str,
        concerned: Callable[[RunnerRow], bool],
        force: bool,  # noqa: FBT001 (private, and named by its callers)
    ) -> None:
        if force:
            return
        now = self._storage.read(self.group, ()).now
        for row in self._storage.runners(self.group):
            silent = now - row.heard_at
            alive = row.left_at is None and silent < ALIVE_WITHIN * row.heartbeat_timeout
            if alive and concerned(row):
                raise StillAliveError(
                    f"{what} is not forgotten: runner {row.runner_id!r} was heard of "
                    f"{_in_tenths(silent)} ago; stop it first, or force it"
                )

    def _change(self, service: str, change: Callable[[Gate, int, str], Gate]) -> tuple[Gate, Gate]:
        """Change a gate in one step, however many others do; what it was, and what it is."""
        checked_name("service", service)
        name = random_name()
        for _ in range(_TRIES):
            reading = self._storage.read(self.group, (service,))
            kept = reading.services[service].gate if service in reading.services else None
            gate = gates.new_gate(reading.now) if kept is None else gate_from_text(kept.body)
            changed = change(gate, reading.now, name)
            if changed == gate and kept is not None:
                return gate, gate
            new = Record(random_name(), gate_to_text(changed), owner_of(changed))
            expected = None if kept is None else kept.version
            swapped = self._storage.swap(self.group, service, Kind.GATE, expected, new)
            if swapped.busy:
                raise BusyError(
                    f"service {service!r}: another transaction has its gate locked, such as a "
                    "job's: try again when that has ended"
                )
            if swapped.done:
                self._show(service, changed)
                return gate, changed
        raise BusyError(f"service {service!r}: its gate was changed by others {_TRIES} times")

    def _show(self, service: str, gate: Gate) -> None:
        """Have every runner look at a gate that was changed, and keep what was done to it."""
        self._storage.advance(self.group)
        entries = [Entry(row.id, row.at, row.kind, row_to_text(row)) for row in gate.unsaid]
        self._storage.append(self.group, service, entries)

    def _gate(self, service: str) -> Gate | None:
        kept = self._storage.read(self.group, (service,)).services.get(service)
        return None if kept is None or kept.gate is None else gate_from_text(kept.gate.body)

    def _run_of(self, service: str, gate: Gate, trigger: str) -> Execution | None:
        """The last run of a trigger that nothing is to come of any more; one that had a chance."""
        rows = [*self._history(service), *gate.unsaid]
        runs = [row for row in rows if isinstance(row, Execution) and row.trigger == trigger]
        return max(reversed(runs), key=lambda run: run.reason not in gates.NO_ATTEMPT, default=None)

    def _history(self, service: str) -> list[gates.Row]:
        entries = self._storage.history(self.group, service, last=_TRIES)
        return [row_from_text(entry.body) for entry in entries]


def _in_tenths(silent: int) -> str:
    """A length in microseconds for people: to a tenth of a second."""
    return format_duration(timedelta(seconds=max(0, silent) // 100_000 / 10))


def _is_ahead(gate: Gate, trigger: str) -> bool:
    """Whether a trigger waits yet, or its run is open."""
    waits = gate.trigger is not None and gate.trigger.id == trigger
    return waits or (gate.open is not None and gate.open.trigger == trigger)


def _end(until: datetime | timedelta | None, now: int) -> int | None:
    """When a pause ends, in microseconds on the storage's clock."""
    if until is None:
        return None
    if isinstance(until, datetime) and until.utcoffset() is None:
        raise ValueError(f"until must be aware of its time zone, got {until.isoformat()}")
    end = microseconds(until) if isinstance(until, datetime) else now + microseconds(until)
    if end <= now:
        shown = to_the_second(now)
        raise ValueError(f"until must be in the future, and the storage's now is {shown}")
    return end


def to_the_second(at: int) -> str:
    """An instant in microseconds for people: ISO 8601, in UTC, such as 2026-01-31T12:00:00Z."""
    return instant(at).isoformat(timespec="seconds").replace("+00:00", "Z")
