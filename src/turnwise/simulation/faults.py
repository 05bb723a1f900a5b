"""Each kind of incident, done to the processes of a stage."""

from collections.abc import Callable, Iterator, Sequence

from turnwise.cycles import microseconds
from turnwise.simulation.judge import Judge
from turnwise.simulation.process import Process
from turnwise.simulation.scenario import FaultKind, Incident, incidents_of
from turnwise.simulation.stage import Stage
from turnwise.storages.memory import MemoryStorage

_MOMENT = 1


class Faults:
    """Lets everything go wrong that a scenario has."""

    def __init__(self, stage: Stage, judges: Sequence[Judge]) -> None:
        self._stage, self._judges = stage, judges
        self._of_one: dict[FaultKind, Callable[[Process, int, int], object]] = {
            FaultKind.CRASH: lambda it, lasts, _: stage.crash(it, lasts, same_id=False),
            FaultKind.RESTART: lambda it, lasts, _: stage.crash(it, lasts, same_id=True),
            FaultKind.SUSPEND: self._suspend,
            FaultKind.CUT_OFF: self._cut_off,
            FaultKind.LOST_REQUEST: self._lost_request,
            FaultKind.LOST_REPLY: self._lost_reply,
            FaultKind.LOST_ACKNOWLEDGEMENT: self._lost_acknowledgement,
            FaultKind.LATE_COMMIT: self._late_commit,
            FaultKind.LEAVE: self._leave,
            FaultKind.DRAIN: self._drain,
        }
        self._of_all: dict[FaultKind, Callable[[int, int], object]] = {
            FaultKind.KILL_IN_TURN: self._kill_in_turn,
            FaultKind.OUTAGE: self._outage,
            FaultKind.SLOW: self._slow,
            FaultKind.CLOCK_STEP: self._clock_step,
            FaultKind.JOIN: self._join,
            FaultKind.DEPLOY: self._deploy,
            FaultKind.PAUSE: self._pause,
            FaultKind.TRIGGER: self._trigger,
            FaultKind.OVERRUN: lambda lasts, _: setattr(stage, "next_takes", lasts),
            FaultKind.FAILURE: lambda _, __: setattr(stage, "next_fails", True),
            FaultKind.POISON: lambda lasts, _: setattr(stage, "next_poison", lasts),
            FaultKind.FORGET: self._forget,
        }

    def plan(self) -> None:
        """Let the incidents happen, each at its time."""
        self._plan_next(incidents_of(self._stage.scenario))
        self._stage.at(self._stage.heals_at, self._heal)

    def _plan_next(self, incidents: Iterator[Incident]) -> None:
        incident = next(incidents, None)
        if incident is not None:
            self._stage.at(microseconds(incident.at), self._happen, (incident, incidents))

    def _happen(self, what: tuple[Incident, Iterator[Incident]]) -> None:
        incident, rest = what
        lasts, delay = microseconds(incident.lasts), microseconds(incident.delay)
        if incident.kind in self._of_all:
            self._stage.incidents[str(incident.kind)] += 1
            self._of_all[incident.kind](lasts, delay)
        else:
            assert incident.place is not None  # noqa: S101 (it strikes one)
            process = self._stage.places[incident.place]
            if process is not None and process.alive:
                self._stage.incidents[str(incident.kind)] += 1
                self._of_one[incident.kind](process, lasts, delay)
        self._plan_next(rest)

    def _heal(self, _: None) -> None:
        self._stage.heal()
        for process in self._stage.started:
            process.link.loses_next_acknowledgement = False
        for judge in self._judges:
            judge.healed()

    # What strikes one runner ------------------------------------------------------------------

    def _suspend(self, process: Process, lasts: int, delay: int) -> None:
        process.suspended_until = max(process.suspended_until, self._stage.now + lasts)
        process.link.held_until = process.suspended_until if delay else 0
        process.link.disturb(process.suspended_until)

    def _cut_off(self, process: Process, lasts: int, _: int) -> None:
        process.link.cut_off_until = max(process.link.cut_off_until, self._stage.now + lasts)
        process.link.disturb(process.link.cut_off_until)

    def _lost_request(self, process: Process, lasts: int, _: int) -> None:
        process.link.lost_request_until = self._stage.now + lasts
        process.link.disturb(process.link.lost_request_until)

    def _lost_reply(self, process: Process, lasts: int, delay: int) -> None:
        until = self._stage.now + lasts
        process.link.lost_reply = (until, delay)
        process.link.disturb(until)
        process.trouble.add(self._stage.now, until + delay)

    def _lost_acknowledgement(self, process: Process, _: int, __: int) -> None:
        process.link.loses_next_acknowledgement = True

    def _late_commit(self, process: Process, lasts: int, delay: int) -> None:
        until = self._stage.now + lasts
        process.link.late_commit = (until, delay)
        process.link.disturb(until)
        process.trouble.add(self._stage.now, until + delay + _MOMENT)

    def _leave(self, process: Process, lasts: int, _: int) -> None:
        self._stage.trouble.add(self._stage.now, self._stage.now)
        process.request_stop()
        self._stage.at(self._stage.now + lasts, self._stage.replace_in, (process.place, False))

    def _drain(self, process: Process, lasts: int, _: int) -> None:
        stage, runner_id = self._stage, process.runner_id
        process.drained_until = stage.now + lasts
        process.trouble.add(stage.now, stage.now + lasts)
        stage.controls.drain(runner_id)
        stage.at(stage.now + lasts, lambda _: stage.controls.undrain(runner_id))

    # What strikes all -------------------------------------------------------------------------

    def _kill_in_turn(self, lasts: int, _: int) -> None:
        at_work = [each for each in self._stage.started if each.alive and each.is_at_work]
        if at_work:
            self._stage.crash(at_work[0], lasts, same_id=True)
        else:
            self._stage.kill_next_turn = lasts

    def _outage(self, lasts: int, _: int) -> None:
        self._stage.down_until = max(self._stage.down_until, self._stage.now + lasts)
        self._stage.trouble_all(self._stage.down_until)

    def _slow(self, lasts: int, delay: int) -> None:
        self._stage.slow(self._stage.now + lasts, delay)
        self._stage.trouble_all(self._stage.now + lasts, 2 * delay)

    def _clock_step(self, lasts: int, delay: int) -> None:
        stage = self._stage
        stage.trouble.add(stage.now, stage.now + lasts)
        stage.step_clock(delay)
        stage.at(stage.now + lasts, lambda _: stage.step_clock(-delay))

    def _join(self, lasts: int, _: int) -> None:
        stage = self._stage
        process = stage.start_process(stage.spare_place())

        def stop(_: object) -> None:
            stage.trouble.add(stage.now, stage.now)
            process.request_stop()

        stage.at(stage.now + lasts, stop)

    def _deploy(self, lasts: int, _: int) -> None:
        stage = self._stage

        def replace_one(place: int) -> None:
            process = stage.places[place]
            if process is not None and process.alive and stage.now < stage.heals_at:
                stage.trouble.add(stage.now, stage.now)
                process.request_stop()
                stage.start_process(place)

        for place in range(stage.scenario.runners):
            stage.at(stage.now + place * lasts, replace_one, place)

    def _pause(self, lasts: int, _: int) -> None:
        stage = self._stage
        for judge in self._judges:
            stage.controls.pause(judge.service)
            judge.gate_may_have_changed()
            stage.at(stage.now + lasts, self._resume, judge)

    def _resume(self, judge: Judge) -> None:
        self._stage.controls.resume(judge.service)
        judge.gate_may_have_changed()

    def _trigger(self, _: int, __: int) -> None:
        stage = self._stage
        for judge in self._judges:
            stage.controls.trigger(judge.service)
            judge.gate_may_have_changed()

    def _forget(self, _: int, delay: int) -> None:
        stage = self._stage
        assert isinstance(stage.storage, MemoryStorage)  # noqa: S101 (no other can forget)
        before = stage.storage.copy()

        def forget(_: object) -> None:
            stage.replace_storage(before)
            stage.trouble.add(stage.now, stage.now)
            for judge in self._judges:
                judge.forget()

        stage.at(stage.now + delay, forget)
