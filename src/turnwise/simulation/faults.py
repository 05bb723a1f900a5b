"""Each kind of incident, done to the processes of a laboratory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from turnwise.simulation.incidents import incidents_of
from turnwise.simulation.processes import RunnerProcess
from turnwise.simulation.scenario import FaultKind, Incident
from turnwise.simulation.virtual_time import microseconds

if TYPE_CHECKING:
    from turnwise.simulation.laboratory import Laboratory


class Faults:
    """Lets everything go wrong that a scenario has."""

    def __init__(self, laboratory: Laboratory) -> None:
        self._laboratory = laboratory
        self._time = laboratory.time
        self._network = laboratory.network
        self._inflict: dict[FaultKind, Callable[[Incident, RunnerProcess | None], None]] = {
            FaultKind.CRASH: self._crash,
            FaultKind.RESTART: self._crash,
            FaultKind.PAUSE: self._pause,
            FaultKind.CUT_OFF: self._cut_off,
            FaultKind.OUTAGE: self._outage,
            FaultKind.SLOW: self._slow,
            FaultKind.LOST_REPLY: self._lost_reply,
            FaultKind.LOST_ACKNOWLEDGEMENT: self._lost_acknowledgement,
            FaultKind.LATE_COMMIT: self._late_commit,
            FaultKind.LEAVE: self._leave,
            FaultKind.JOIN: self._join,
            FaultKind.DEPLOY: self._deploy,
            FaultKind.OVERRUN: self._overrun,
            FaultKind.FAILURE: self._failure,
        }

    def plan(self) -> None:
        """Let the incidents happen, each at its time."""
        self._plan_next(incidents_of(self._laboratory.scenario))
        self._time.at(microseconds(self._laboratory.scenario.heals_at), self._healed)

    def _plan_next(self, incidents: Iterator[Incident]) -> None:
        incident = next(incidents, None)
        if incident is None:
            return

        def happen() -> None:
            self._happen(incident)
            self._plan_next(incidents)

        self._time.at(microseconds(incident.at), happen)

    def _happen(self, incident: Incident) -> None:
        process = None
        if incident.place is not None:
            process = self._laboratory.processes[incident.place]
            if process is None or not process.alive:
                return
        self._laboratory.incidents[str(incident.kind)] += 1
        self._inflict[incident.kind](incident, process)

    def _until(self, incident: Incident) -> int:
        return self._time.now + microseconds(incident.lasts)

    def _healed(self) -> None:
        self._laboratory.heal()

    def _crash(self, incident: Incident, process: RunnerProcess | None) -> None:
        if process is None or incident.place is None:
            return
        place, same_id = incident.place, incident.kind is FaultKind.RESTART
        self._laboratory.work.note_kill(process)
        process.kill()
        self._time.at(
            self._until(incident),
            lambda: self._laboratory.replace_in(place, same_id=same_id),
        )

    def _pause(self, incident: Incident, process: RunnerProcess | None) -> None:
        if process is not None:
            process.paused_until = max(process.paused_until, self._until(incident))
            process.disturb(process.paused_until)

    def _cut_off(self, incident: Incident, process: RunnerProcess | None) -> None:
        if process is not None:
            process.cut_off_until = max(process.cut_off_until, self._until(incident))
            process.trouble(process.cut_off_until)

    def _outage(self, incident: Incident, _: RunnerProcess | None) -> None:
        self._network.down_until = max(self._network.down_until, self._until(incident))
        self._trouble_all(self._network.down_until)

    def _slow(self, incident: Incident, _: RunnerProcess | None) -> None:
        delay = microseconds(incident.delay)
        self._network.slow = (self._until(incident), delay)
        self._trouble_all(self._until(incident), 2 * delay)

    def _trouble_all(self, until: int, beyond: int = 0) -> None:
        self._network.troubled_until = max(self._network.troubled_until, until)
        storage = self._laboratory.storage
        storage.disturbances.add(self._time.now, until + beyond)

    def _lost_reply(self, incident: Incident, process: RunnerProcess | None) -> None:
        if process is not None:
            delay = microseconds(incident.delay)
            process.lost_reply = (self._until(incident), delay)
            process.trouble(self._until(incident))
            process.disturb(self._until(incident) + delay)

    def _lost_acknowledgement(self, _: Incident, process: RunnerProcess | None) -> None:
        if process is not None:
            process.loses_next_acknowledgement = True

    def _late_commit(self, incident: Incident, process: RunnerProcess | None) -> None:
        if process is not None:
            delay = microseconds(incident.delay)
            process.late_commit = (self._until(incident), delay)
            process.trouble(self._until(incident))
            process.disturb(self._until(incident) + delay + 1)

    def _leave(self, incident: Incident, process: RunnerProcess | None) -> None:
        if process is None or incident.place is None:
            return
        place = incident.place
        process.request_stop()
        self._time.at(self._until(incident), lambda: self._laboratory.replace_in(place))

    def _join(self, incident: Incident, _: RunnerProcess | None) -> None:
        process = self._laboratory.start_process(self._laboratory.spare_place())
        self._time.at(self._until(incident), process.request_stop)

    def _deploy(self, incident: Incident, _: RunnerProcess | None) -> None:
        step = microseconds(incident.lasts)
        for place in range(self._laboratory.scenario.runners):

            def replace_one(place: int = place) -> None:
                process = self._laboratory.processes[place]
                healed = self._time.now >= microseconds(self._laboratory.scenario.heals_at)
                if process is not None and process.alive and not healed:
                    process.request_stop()
                    self._laboratory.start_process(place)

            self._time.at(self._time.now + place * step, replace_one)

    def _overrun(self, incident: Incident, _: RunnerProcess | None) -> None:
        self._laboratory.work.next_takes = microseconds(incident.lasts)

    def _failure(self, _: Incident, __: RunnerProcess | None) -> None:
        self._laboratory.work.next_fails = True
