"""Each kind of incident, done to the processes of a play."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from turnwise.cycles import microseconds
from turnwise.simulation.process import Process
from turnwise.simulation.scenario import FaultKind, Incident, incidents_of
from turnwise.storages.memory import MemoryStorage

if TYPE_CHECKING:
    from turnwise.simulation.play import Play

_MOMENT = 1


class Faults:
    """Lets everything go wrong that a scenario has."""

    def __init__(self, play: Play) -> None:
        self._play = play
        self._of_one: dict[FaultKind, Callable[[Process, int, int], object]] = {
            FaultKind.CRASH: lambda it, lasts, _: play.crash(it, lasts, same_id=False),
            FaultKind.RESTART: lambda it, lasts, _: play.crash(it, lasts, same_id=True),
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
            FaultKind.OVERRUN: lambda lasts, _: setattr(play, "next_takes", lasts),
            FaultKind.FAILURE: lambda _, __: setattr(play, "next_fails", True),
            FaultKind.POISON: lambda lasts, _: setattr(play, "next_poison", lasts),
            FaultKind.FORGET: self._forget,
        }

    def plan(self) -> None:
        """Let the incidents happen, each at its time."""
        self._plan_next(incidents_of(self._play.scenario))
        self._play.at(self._play.heals_at, self._heal)

    def _plan_next(self, incidents: Iterator[Incident]) -> None:
        incident = next(incidents, None)
        if incident is not None:
            self._play.at(microseconds(incident.at), self._happen, (incident, incidents))

    def _happen(self, what: tuple[Incident, Iterator[Incident]]) -> None:
        incident, rest = what
        lasts, delay = microseconds(incident.lasts), microseconds(incident.delay)
        if incident.kind in self._of_all:
            self._play.incidents[str(incident.kind)] += 1
            self._of_all[incident.kind](lasts, delay)
        else:
            assert incident.place is not None  # noqa: S101 (it strikes one)
            process = self._play.places[incident.place]
            if process is not None and process.alive:
                self._play.incidents[str(incident.kind)] += 1
                self._of_one[incident.kind](process, lasts, delay)
        self._plan_next(rest)

    def _heal(self, _: None) -> None:
        play = self._play
        play.next_takes, play.next_fails = None, False
        play.next_poison = play.kill_next_turn = None
        for process in play.started:
            process.loses_next_acknowledgement = False
        for judge in play.judges.values():
            judge.healed()

    # What strikes one runner ------------------------------------------------------------------

    def _suspend(self, process: Process, lasts: int, delay: int) -> None:
        process.suspended_until = max(process.suspended_until, self._play.now + lasts)
        process.holds_requests = delay > 0
        process.disturb(process.suspended_until)

    def _cut_off(self, process: Process, lasts: int, _: int) -> None:
        process.cut_off_until = max(process.cut_off_until, self._play.now + lasts)
        process.disturb(process.cut_off_until)

    def _lost_request(self, process: Process, lasts: int, _: int) -> None:
        process.lost_request_until = self._play.now + lasts
        process.disturb(process.lost_request_until)

    def _lost_reply(self, process: Process, lasts: int, delay: int) -> None:
        until = self._play.now + lasts
        process.lost_reply = (until, delay)
        process.disturb(until)
        process.trouble.add(self._play.now, until + delay)

    def _lost_acknowledgement(self, process: Process, _: int, __: int) -> None:
        process.loses_next_acknowledgement = True

    def _late_commit(self, process: Process, lasts: int, delay: int) -> None:
        until = self._play.now + lasts
        process.late_commit = (until, delay)
        process.disturb(until)
        process.trouble.add(self._play.now, until + delay + _MOMENT)

    def _leave(self, process: Process, lasts: int, _: int) -> None:
        self._play.trouble.add(self._play.now, self._play.now)
        process.request_stop()
        self._play.at(self._play.now + lasts, self._play.replace_in, (process.place, False))

    def _drain(self, process: Process, lasts: int, _: int) -> None:
        play, runner_id = self._play, process.runner_id
        process.drained_until = play.now + lasts
        process.trouble.add(play.now, play.now + lasts)
        play.controls.drain(runner_id)
        play.at(play.now + lasts, lambda _: play.controls.undrain(runner_id))

    # What strikes all -------------------------------------------------------------------------

    def _kill_in_turn(self, lasts: int, _: int) -> None:
        at_work = [each for each in self._play.started if each.alive and each.is_at_work]
        if at_work:
            self._play.crash(at_work[0], lasts, same_id=True)
        else:
            self._play.kill_next_turn = lasts

    def _outage(self, lasts: int, _: int) -> None:
        self._play.down_until = max(self._play.down_until, self._play.now + lasts)
        self._play.trouble_all(self._play.down_until)

    def _slow(self, lasts: int, delay: int) -> None:
        self._play.slow(self._play.now + lasts, delay)
        self._play.trouble_all(self._play.now + lasts, 2 * delay)

    def _clock_step(self, lasts: int, delay: int) -> None:
        play = self._play
        play.trouble.add(play.now, play.now + lasts)
        play.step_clock(delay)
        play.at(play.now + lasts, lambda _: play.step_clock(-delay))

    def _join(self, lasts: int, _: int) -> None:
        play = self._play
        process = play.start_process(play.spare_place())

        def stop(_: object) -> None:
            play.trouble.add(play.now, play.now)
            process.request_stop()

        play.at(play.now + lasts, stop)

    def _deploy(self, lasts: int, _: int) -> None:
        play = self._play

        def replace_one(place: int) -> None:
            process = play.places[place]
            if process is not None and process.alive and play.now < play.heals_at:
                play.trouble.add(play.now, play.now)
                process.request_stop()
                play.start_process(place)

        for place in range(play.scenario.runners):
            play.at(play.now + place * lasts, replace_one, place)

    def _pause(self, lasts: int, _: int) -> None:
        play = self._play
        for judge in play.judges.values():
            play.controls.pause(judge.service)
            judge.gate_may_have_changed()
            play.at(play.now + lasts, self._resume, judge.service)

    def _resume(self, service: str) -> None:
        self._play.controls.resume(service)
        self._play.judges[service].gate_may_have_changed()

    def _trigger(self, _: int, __: int) -> None:
        play = self._play
        for judge in play.judges.values():
            play.controls.trigger(judge.service)
            judge.gate_may_have_changed()

    def _forget(self, _: int, delay: int) -> None:
        play = self._play
        assert isinstance(play.storage, MemoryStorage)  # noqa: S101 (no other can forget)
        before = play.storage.copy()

        def forget(_: object) -> None:
            play.replace_storage(before)
            play.trouble.add(play.now, play.now)
            for judge in play.judges.values():
                judge.forget()

        play.at(play.now + delay, forget)
