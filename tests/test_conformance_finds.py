"""The conformance suite can fail: each storage that is broken on purpose fails a test of it."""

import textwrap

import pytest

pytest_plugins = ["pytester"]

BROKEN = {
    "admits whoever asks": (
        "while_one_runs_every_other_is_refused",
        """
        def admit(self, service, run, settings, look):
            self._of(service).running = None
            return super().admit(service, run, settings, look)
        """,
    ),
    "forgets that a cycle is served": (
        "served_cycle_admits_nobody",
        """
        def admit(self, service, run, settings, look):
            self._of(service).served.clear()
            return super().admit(service, run, settings, look)
        """,
    ),
    "checks, and then inserts": (
        "of_32_threads_one_is_admitted",
        """
        def admit(self, service, run, settings, look):
            kept = self._of(service)
            if kept.running is not None or run.cycle_start in kept.served:
                return super().admit(service, run, settings, look)
            time.sleep(0.001)
            kept.running = None
            kept.served.clear()
            return super().admit(service, run, settings, look)
        """,
    ),
    "lets the last end of a run win": (
        "the_first_end_of_a_run_stands",
        """
        def finish(self, service, run_id, status, reason, settings):
            kept = self._of(service)
            if run_id in kept.executions:
                kept.running = run_id
            return super().finish(service, run_id, status, reason, settings)
        """,
    ),
    "hands out the same fencing token": (
        "fencing_tokens_grow_by_one",
        """
        def admit(self, service, run, settings, look):
            self._of(service).fencing_token = 0
            return super().admit(service, run, settings, look)
        """,
    ),
    "hands out a fencing token again when the history is purged": (
        "fencing_tokens_outlive_the_history",
        """
        def finish(self, service, run_id, status, reason, settings):
            record = super().finish(service, run_id, status, reason, settings)
            self._of(service).fencing_token = len(self._of(service).executions)
            return record
        """,
    ),
    "never gives up a dead owner": (
        "an_owner_is_alive_exactly_at_the_timeout",
        """
        def _bury_dead_owner(self, kept, settings, now):
            pass
        """,
    ),
    "counts who is there now": (
        "within_one_cycle_every_look_gives_the_same_set",
        """
        def _see(self, service, settings, now):
            look = super()._see(service, settings, now)
            stable = membership.stable_set(self._of(service).runners.values(), now, settings)
            return replace(look, size=len(stable))
        """,
    ),
    "forgets a leave": (
        "only_the_process_that_sent_the_last_heartbeat_can_leave",
        """
        def leave(self, service, who):
            pass
        """,
    ),
    "keeps each refusal anew": (
        "kept_once_per_runner_cycle_and_reason",
        """
        def block(self, service, claim, look):
            super().block(service, claim, replace(look, cycle=replace(look.cycle, start=look.now)))
        """,
    ),
    "purges a row that is RUNNING": (
        "a_running_row_is_never_forgotten",
        """
        def finish(self, service, run_id, status, reason, settings):
            record = super().finish(service, run_id, status, reason, settings)
            kept = self._of(service)
            for old in list(kept.executions.values()):
                if old.start_time < self._clock() - settings.retention_age:
                    kept.executions.pop(old.run_id)
                    kept.running = None
            return record
        """,
    ),
    "mixes services": (
        "services_do_not_see_each_other",
        """
        def _of(self, service):
            return super()._of("one for all")
        """,
    ),
    "cuts names": (
        "unusual_names_are_kept_as_they_are",
        """
        def _of(self, service):
            return super()._of(service[:64])

        def heartbeat(self, service, who, settings, run_id=None):
            who = replace(who, runner_id=who.runner_id[:64])
            return super().heartbeat(service, who, settings, run_id)
        """,
    ),
    "counts milliseconds": (
        "instants_are_kept_to_the_microsecond",
        """
        def heartbeat(self, service, who, settings, run_id=None):
            clock, self._clock = self._clock, lambda: self._now
            exact = clock()
            self._now = exact.replace(microsecond=exact.microsecond // 1000 * 1000)
            try:
                return super().heartbeat(service, who, settings, run_id)
            finally:
                self._clock = clock
        """,
    ),
    "keeps a run alive by its runner's heartbeats": (
        "a_run_lives_by_heartbeats_that_name_it",
        """
        def heartbeat(self, service, who, settings, run_id=None):
            run_id = run_id or self._of(service).running
            return super().heartbeat(service, who, settings, run_id)
        """,
    ),
}

HEAD = """
import time
from dataclasses import replace

from hypothesis import Phase, settings

from turnwise import membership
from turnwise.backends.memory import MemoryBackend
from turnwise.testing import Agreement, BackendConformance


class Broken(MemoryBackend):
"""

TAIL = """

class TestBroken(BackendConformance):
    def open_backend(self, clock, folder):
        return Broken(clock)


class Disagreement(Agreement):
    storages = {"broken": lambda clock, folder: Broken(clock)}


# That it is found is the point; the shortest way to it would take most of the time.
TestDisagreement = Disagreement.TestCase
TestDisagreement.settings = settings(
    max_examples=50, deadline=None, phases=[Phase.generate], report_multiple_bugs=False
)
"""


@pytest.mark.parametrize("bug", BROKEN)
def test_a_storage_with_this_bug_fails_the_test_that_is_for_it(
    bug: str, pytester: pytest.Pytester
) -> None:
    test, methods = BROKEN[bug]
    code = HEAD + textwrap.indent(textwrap.dedent(methods), "    ") + TAIL
    path = pytester.makepyfile(test_broken=code)
    result = pytester.runpytest("-q", "-p", "no:randomly", "-k", f"TestBroken and {test}", path)
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) >= 1, outcomes


def test_the_storage_without_a_bug_passes(pytester: pytest.Pytester) -> None:
    code = HEAD + "    pass\n" + TAIL
    path = pytester.makepyfile(test_sound=code)
    outcomes = pytester.runpytest("-q", path).parseoutcomes()
    assert set(outcomes) <= {"passed"}
    assert outcomes["passed"] > 30


def test_the_state_machine_finds_a_storage_that_disagrees(pytester: pytest.Pytester) -> None:
    methods = textwrap.dedent(BROKEN["forgets that a cycle is served"][1])
    path = pytester.makepyfile(test_broken=HEAD + textwrap.indent(methods, "    ") + TAIL)
    result = pytester.runpytest("-q", "-k", "TestDisagreement", path)
    result.assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("raise RuntimeError('of its own')", "*RuntimeError: of its own*"),
        ("os._exit(3)", "*BrokenProcessPool*"),
    ],
)
def test_a_storage_that_fails_in_one_process_alone_fails_the_test_and_nobody_waits(
    fault: str, says: str, pytester: pytest.Pytester
) -> None:
    code = f"""
import os
from functools import partial

from turnwise.backends.sql import SqlBackend
from turnwise.testing import ProcessConformance


class Failing(SqlBackend):
    def admit(self, service, run, settings, look):
        if run.runner_id == "3":
            {fault}
        return super().admit(service, run, settings, look)


class TestFailing(ProcessConformance):
    def opener(self, folder):
        return partial(Failing, f"sqlite:///{{folder / 'turns.db'}}")
"""
    path = pytester.makepyfile(test_failing=code)
    result = pytester.runpytest_subprocess("-q", "-k", "8_processes", path)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([says])


def test_the_suite_says_what_a_subclass_has_to_say(pytester: pytest.Pytester) -> None:
    code = """
from turnwise.testing import BackendConformance

class TestNothing(BackendConformance):
    pass
"""
    result = pytester.runpytest("-q", "-x", pytester.makepyfile(test_nothing=code))
    result.stdout.fnmatch_lines(["*a conformance test says how to open its storage*"])
