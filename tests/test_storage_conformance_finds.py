"""The conformance kit can fail: each storage that is broken on purpose fails a test of it."""

import textwrap

import pytest
from hypothesis import settings

pytest_plugins = ["pytester"]

BROKEN = {
    # Compare and set
    "swaps whatever the version is": (
        "a_record_whose_version_has_moved_is_left_as_it_is",
        """
        def swap(self, group, service, kind, expected, new, not_after=None):
            there = self._read(group).records[kind].get(service)
            version = there.version if there else None
            return super().swap(group, service, kind, version, new, not_after)
        """,
    ),
    "swaps however late it is": (
        "in_time_exactly_at_the_last_instant_and_late_a_microsecond_beyond",
        """
        def swap(self, group, service, kind, expected, new, not_after=None):
            return super().swap(group, service, kind, expected, new)
        """,
    ),
    "takes the last instant for too late": (
        "in_time_exactly_at_the_last_instant_and_late_a_microsecond_beyond",
        """
        def swap(self, group, service, kind, expected, new, not_after=None):
            not_after = None if not_after is None else not_after - 1
            return super().swap(group, service, kind, expected, new, not_after)
        """,
    ),
    "reads the clock before it waits for the record": (
        "a_swap_that_has_waited_is_held_against_when_it_got_through",
        """
        def swap(self, group, service, kind, expected, new, not_after=None):
            if service not in self.waiting:
                self.waiting[service] = threading.Lock()
            now = self._clock() if not_after is not None else None
            with self.waiting[service]:
                done = super().swap(group, service, kind, expected, new)
            return replace(done, now=now or done.now)
        """,
    ),
    "reads, and then writes": (
        "of_8_threads_that_swap_one_version_one_succeeds_in_each_round",
        """
        def swap(self, group, service, kind, expected, new, not_after=None):
            there = self._read(group).records[kind].get(service)
            if (there.version if there else None) != expected:
                return super().swap(group, service, kind, expected, new, not_after)
            time.sleep(0.0001)
            with self._lock:
                now = self._clock()
                if not_after is not None and now > not_after:
                    return Swapped(now, False)
                self._write(group).put(service, kind, new)
                return Swapped(now, True)
        """,
    ),
    "makes a record for whoever remembers one": (
        "a_record_that_is_not_there_has_no_version",
        """
        def swap(self, group, service, kind, expected, new, not_after=None):
            if service not in self._read(group).records[kind]:
                expected = None
            return super().swap(group, service, kind, expected, new, not_after)
        """,
    ),
    "compares versions without their case": (
        "versions_are_compared_as_they_are_written",
        """
        def swap(self, group, service, kind, expected, new, not_after=None):
            there = self._read(group).records[kind].get(service)
            if there and expected and there.version.lower() == expected.lower():
                expected = there.version
            return super().swap(group, service, kind, expected, new, not_after)
        """,
    ),
    "keeps an owner that has gone": (
        "an_owner_is_kept_with_its_record_and_goes_with_it",
        """
        def swap(self, group, service, kind, expected, new, not_after=None):
            there = self._read(group).records[kind].get(service)
            if there and new.owner is None:
                new = replace(new, owner=there.owner)
            return super().swap(group, service, kind, expected, new, not_after)
        """,
    ),
    "cuts bodies": (
        "a_body_is_kept_as_it_is",
        """
        def swap(self, group, service, kind, expected, new, not_after=None):
            new = replace(new, body=new.body[:65535])
            return super().swap(group, service, kind, expected, new, not_after)
        """,
    ),
    # Heartbeats
    "lets a late heartbeat overwrite a newer one": (
        "a_late_heartbeat_changes_nothing_and_is_answered",
        """
        def heartbeat(self, group, beat):
            life = self._read(group).lives.get((beat.runner_id, beat.boot_id))
            if life and life.left_at is None:
                self._write(group).lives[beat.runner_id, beat.boot_id] = life._replace(beat_count=0)
            return super().heartbeat(group, beat)
        """,
    ),
    "undoes a leave": (
        "a_heartbeat_never_undoes_a_leave",
        """
        def heartbeat(self, group, beat):
            life = self._read(group).lives.get((beat.runner_id, beat.boot_id))
            if life:
                self._write(group).lives[beat.runner_id, beat.boot_id] = life._replace(left_at=None)
            return super().heartbeat(group, beat)
        """,
    ),
    "confirms a heartbeat that found no row": (
        "the_first_heartbeat_of_a_life_makes_its_row_and_confirms_nothing",
        """
        def heartbeat(self, group, beat):
            return replace(super().heartbeat(group, beat), found=True)
        """,
    ),
    "reads before it writes": (
        "shows_its_own_word_since_it_is_written_before_anything_is_read",
        """
        def heartbeat(self, group, beat):
            before = self.copy()
            pulse = super().heartbeat(group, beat)
            there = before._read(group)
            key = (beat.runner_id, beat.boot_id)
            seen = {name: there.sight(name) for name in there.offered.get(key, ())}
            return replace(pulse, sights={n: sight for n, sight in seen.items() if sight})
        """,
    ),
    "keeps a word though the run is named no more": (
        "the_word_is_the_count_of_the_owners_newest_heartbeat_while_it_names_the_run",
        """
        def _sights(self, group, sight):
            life = self._read(group).lives.get((sight.owner.runner_id, sight.owner.boot_id))
            return replace(sight, word=life.beat_count if life else None)

        def heartbeat(self, group, beat):
            pulse = super().heartbeat(group, beat)
            sights = {name: self._sights(group, one) for name, one in pulse.sights.items()}
            return replace(pulse, sights=sights)

        def read(self, group, services):
            reading = super().read(group, services)
            return replace(reading, services={
                name: replace(kept, sight=kept.sight and self._sights(group, kept.sight))
                for name, kept in reading.services.items()
            })
        """,
    ),
    "takes a row that names no run for a row that is lost": (
        "the_word_is_the_count_of_the_owners_newest_heartbeat_while_it_names_the_run",
        """
        def heartbeat(self, group, beat):
            pulse = super().heartbeat(group, beat)
            return replace(pulse, sights={
                name: replace(one, word=one.word or None) for name, one in pulse.sights.items()
            })

        def read(self, group, services):
            reading = super().read(group, services)
            return replace(reading, services={
                name: replace(kept, sight=kept.sight and replace(
                    kept.sight, word=kept.sight.word or None))
                for name, kept in reading.services.items()
            })
        """,
    ),
    "takes the word of another life": (
        "the_word_is_the_count_of_the_owners_newest_heartbeat_while_it_names_the_run",
        """
        def heartbeat(self, group, beat):
            pulse = super().heartbeat(group, beat)
            lives = self._read(group).lives
            def word(owner):
                return max((life.beat_count for (runner, _), life in lives.items()
                            if runner == owner.runner_id and owner.run_id in life.runs),
                           default=None)
            sights = {n: replace(one, word=word(one.owner)) for n, one in pulse.sights.items()}
            return replace(pulse, sights=sights)
        """,
    ),
    "sees only the runs of its own": (
        "the_open_runs_are_told_whoever_owns_them",
        """
        def heartbeat(self, group, beat):
            pulse = super().heartbeat(group, beat)
            own = {n: s for n, s in pulse.sights.items() if s.owner.runner_id == beat.runner_id}
            return replace(pulse, sights=own)
        """,
    ),
    "takes every run that is named for open": (
        "of_the_named_runs_those_are_told_that_are_open_in_some_gate",
        """
        def heartbeat(self, group, beat):
            return replace(super().heartbeat(group, beat), open_runs=frozenset(beat.runs))
        """,
    ),
    "lets a new life join anew": (
        "a_new_life_inherits_when_its_runner_joined_first",
        """
        def heartbeat(self, group, beat):
            pulse = super().heartbeat(group, beat)
            key = (beat.runner_id, beat.boot_id)
            if not pulse.found:
                lives = self._write(group).lives
                lives[key] = lives[key]._replace(joined_at=pulse.now)
            return pulse
        """,
    ),
    "tells of lives that have left": (
        "every_other_life_that_has_not_left_is_told",
        """
        def heartbeat(self, group, beat):
            pulse = super().heartbeat(group, beat)
            others = [(boot, life.beat_count) for (runner, boot), life
                      in self._read(group).lives.items()
                      if runner == beat.runner_id and boot != beat.boot_id]
            return replace(pulse, others=tuple(others))
        """,
    ),
    "moves a leave to when it is repeated": (
        "the_first_leave_of_a_life_stands",
        """
        def leave(self, group, runner_id, boot_id):
            lives = self._read(group).lives
            if (runner_id, boot_id) in lives:
                life = lives[runner_id, boot_id]
                lives[runner_id, boot_id] = life._replace(left_at=self._clock())
        """,
    ),
    # Who counts
    "counts the silent": (
        "a_runner_counts_exactly_at_its_timeout_and_not_a_microsecond_later",
        """
        def stable(self, group, service, **asked):
            return self.with_lives(group, lambda life, now: life._replace(heard_at=now)).stable(
                group, service, **asked)
        """,
    ),
    "counts who was heard of ahead of now": (
        "who_was_heard_of_ahead_of_now_is_silent",
        """
        def stable(self, group, service, **asked):
            def not_ahead(life, now):
                return life._replace(heard_at=min(life.heard_at, now))
            return self.with_lives(group, not_ahead).stable(group, service, **asked)
        """,
    ),
    "counts who has left": (
        "a_runner_does_not_count_where",
        """
        def stable(self, group, service, **asked):
            return self.with_lives(group, lambda life, now: life._replace(left_at=None)).stable(
                group, service, **asked)
        """,
    ),
    "goes by the timeouts of heartbeats": (
        "each_runner_is_held_to_the_timeout_of_its_own_offer",
        """
        def stable(self, group, service, **asked):
            other = self.copy()
            kept = other._write(group)
            for key, row in kept.offers.get(service, {}).items():
                if key in kept.lives:
                    timeout = kept.lives[key].heartbeat_timeout
                    kept.offers[service][key] = replace(
                        row, offer=replace(row.offer, heartbeat_timeout=timeout))
            return MemoryStorage.stable(other, group, service, **asked)
        """,
    ),
    "reads the clock after the rows": (
        "a_runner_heard_of_while_the_clock_is_read_is_not_taken_for_silent",
        """
        def stable(self, group, service, **asked):
            rows = self.copy()
            now = self._clock()
            rows._clock = lambda: now
            return MemoryStorage.stable(rows, group, service, **asked)
        """,
    ),
    "counts lives, not runners": (
        "a_runner_with_several_lives_counts_once_and_by_when_it_joined_first",
        """
        def stable(self, group, service, **asked):
            answer = super().stable(group, service, **asked)
            lives = len(self._read(group).offers.get(service, ()))
            return replace(answer, size=max(answer.size, lives))
        """,
    ),
    "digests what it answers with": (
        "the_answer_begins_where_the_rotation_says_and_has_each_runner_once",
        """
        def stable(self, group, service, **asked):
            answer = super().stable(group, service, **asked)
            digest = sum(runner_digest(runner_id) for runner_id, _ in answer.runners) % 2**48
            return replace(answer, digest=digest)
        """,
    ),
    "looks for those asked about in its answer alone": (
        "the_answer_begins_where_the_rotation_says_and_has_each_runner_once",
        """
        def stable(self, group, service, **asked):
            answer = super().stable(group, service, **asked)
            return replace(answer, alive=answer.alive & {name for name, _ in answer.runners})
        """,
    ),
    "ends at the end instead of going round": (
        "the_answer_begins_where_the_rotation_says_and_has_each_runner_once",
        """
        def stable(self, group, service, *, rotation, limit, among=()):
            answer = super().stable(group, service, rotation=rotation, limit=None, among=among)
            left = answer.size - rotation % answer.size if answer.size else 0
            return replace(answer, runners=answer.runners[:left][:limit])
        """,
    ),
    # Offers and the revision
    "advances no revision for new settings": (
        "the_revision_grows_only_for_settings_that_nobody_else_offers",
        """
        def offer(self, group, offer):
            kept = self._write(group)
            before = kept.revision
            super().offer(group, offer)
            kept.revision = before
            return before
        """,
    ),
    "advances the revision for every offer": (
        "the_revision_grows_only_for_settings_that_nobody_else_offers",
        """
        def offer(self, group, offer):
            before = self._read(group).revision
            after = super().offer(group, offer)
            return after if after > before else self.advance(group)
        """,
    ),
    "drains without a word": (
        "every_mark_advances_the_revision",
        """
        def mark(self, group, runner_id, *, drained):
            kept = self._write(group)
            before = kept.revision
            super().mark(group, runner_id, drained=drained)
            kept.revision = before
        """,
    ),
    # History
    "overwrites rows that are there": (
        "of_several_rows_with_one_id_the_first_is_kept",
        """
        def append(self, group, service, entries):
            super().append(group, service, entries)
            for entry in entries:
                kept = self._write(group).history[service]
                kept.keys.remove((kept.rows[entry.id].at, entry.id))
                kept.rows[entry.id] = entry
                kept.keys.append((entry.at, entry.id))
                kept.keys.sort()
        """,
    ),
    "takes the end of a part along": (
        "rows_from_an_instant_on_and_before_another_one",
        """
        def history(self, group, service, *, until=None, **part):
            until = None if until is None else until + 1
            return super().history(group, service, until=until, **part)
        """,
    ),
    "takes the newest before it looks at their kinds": (
        "rows_of_some_kinds_alone",
        """
        def history(self, group, service, *, kinds=None, **part):
            rows = super().history(group, service, **part)
            return tuple(row for row in rows if kinds is None or row.kind in kinds)
        """,
    ),
    "purges what is exactly as old": (
        "rows_before_an_instant_are_purged",
        """
        def purge(self, group, service, *, before, keep, spare=()):
            super().purge(group, service, before=before + 1, keep=keep, spare=spare)
        """,
    ),
    "purges by age alone": (
        "all_but_the_newest_rows_are_purged",
        """
        def purge(self, group, service, *, before, keep, spare=()):
            super().purge(group, service, before=before, keep=10**9, spare=spare)
        """,
    ),
    "purges the kinds to spare, too": (
        "rows_of_kinds_to_spare_stay_and_do_not_count_among_the_newest",
        """
        def purge(self, group, service, *, before, keep, spare=()):
            super().purge(group, service, before=before, keep=keep)
        """,
    ),
    "counts the rows to spare among the newest": (
        "rows_of_kinds_to_spare_stay_and_do_not_count_among_the_newest",
        """
        def purge(self, group, service, *, before, keep, spare=()):
            kept = self.history(group, service)
            too_many = max(0, len(kept) - keep)
            newest = sum(row.kind not in spare for row in kept[too_many:])
            super().purge(group, service, before=before, keep=newest, spare=spare)
        """,
    ),
    # Names, groups, processes
    "leaves offers behind": (
        "lives_last_heard_of_before_an_instant_are_purged_with_their_offers",
        """
        def purge_runners(self, group, *, before):
            kept = self._write(group)
            for key in [key for key, life in kept.lives.items() if life.heard_at < before]:
                del kept.lives[key]
                kept.boots[key[0]] = tuple(b for b in kept.boots[key[0]] if b != key[1])
        """,
    ),
    "mixes groups": (
        "groups_do_not_see_each_other",
        """
        def _read(self, group):
            return super()._read("one for all")

        def _write(self, group):
            return super()._write("one for all")
        """,
    ),
    "mixes services": (
        "services_do_not_see_each_other",
        """
        def append(self, group, service, entries):
            super().append(group, "one for all", entries)

        def history(self, group, service, **part):
            return super().history(group, "one for all", **part)
        """,
    ),
    "cuts names": (
        "unusual_runner_ids_are_kept_as_they_are",
        """
        def heartbeat(self, group, beat):
            return super().heartbeat(group, replace(beat, runner_id=beat.runner_id[:250]))
        """,
    ),
    "counts milliseconds": (
        "instants_are_kept_to_the_microsecond",
        """
        def __init__(self, *, clock):
            super().__init__(clock=lambda: clock() // 1000 * 1000)
        """,
    ),
    "goes on in a forked child": (
        "in_a_forked_child_every_operation_is_refused",
        """
        def services(self, group):
            return tuple(sorted(self._read(group).offers))
        """,
    ),
}

HEAD = """
import threading
import time
from dataclasses import replace

from hypothesis import Phase, settings

from turnwise.conformance import Agreement, StorageConformance
from turnwise.storages import Swapped, runner_digest
from turnwise.storages.memory import MemoryStorage


class Helped(MemoryStorage):
    waiting = {}

    def with_lives(self, group, change):
        other, now = self.copy(), self._clock()
        lives = other._write(group).lives
        for key in lives:
            lives[key] = change(lives[key], now)
        sound = MemoryStorage(clock=lambda: now)
        sound._groups = other._groups
        return sound


class Broken(Helped):
"""

TAIL = """

class TestBroken(StorageConformance):
    rounds_of_threads = 50

    def open_storage(self, clock, folder):
        return Broken(clock=clock)


class Disagreement(Agreement):
    storages = {"broken": lambda clock, folder: Broken(clock=clock)}


# That it is found is the point; the shortest way to it would take most of the time.
TestDisagreement = Disagreement.TestCase
TestDisagreement.settings = settings(
    max_examples={examples}, deadline=None, phases=[Phase.generate], report_multiple_bugs=False
)
"""


def program(methods: str, *, examples: int = 2000) -> str:
    """A test file with a broken storage, the suite, and the state machine.

    Args:
        methods: what is broken.
        examples: how many the state machine may try until it has found that.
    """
    tail = TAIL.replace("{examples}", str(examples))
    return HEAD + textwrap.indent(textwrap.dedent(methods), "    ") + tail


@pytest.mark.parametrize("bug", BROKEN)
def test_a_storage_with_this_bug_fails_the_test_that_is_for_it(
    bug: str, pytester: pytest.Pytester
) -> None:
    test, methods = BROKEN[bug]
    path = pytester.makepyfile(test_broken=program(methods))
    result = pytester.runpytest("-q", "-p", "no:randomly", "-k", f"TestBroken and {test}", path)
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) >= 1, outcomes
    assert "errors" not in outcomes


def test_the_storage_without_a_bug_passes(pytester: pytest.Pytester) -> None:
    # All of them are tried, since none is found: half of what any other property has.
    examples = (settings.default or settings()).max_examples // 2
    path = pytester.makepyfile(test_sound=program("pass", examples=examples))
    outcomes = pytester.runpytest("-q", path).parseoutcomes()
    assert set(outcomes) <= {"passed"}
    assert outcomes["passed"] > 200


@pytest.mark.parametrize(
    "bug",
    [
        "swaps however late it is",
        "lets a late heartbeat overwrite a newer one",
        "keeps a word though the run is named no more",
        "counts the silent",
        "advances the revision for every offer",
        "overwrites rows that are there",
    ],
)
def test_the_state_machine_finds_a_storage_that_disagrees(
    bug: str, pytester: pytest.Pytester
) -> None:
    path = pytester.makepyfile(test_broken=program(BROKEN[bug][1]))
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

from turnwise.conformance import ProcessConformance
from turnwise.storages.memory import MemoryStorage


class Failing(MemoryStorage):
    def swap(self, group, service, kind, expected, new, not_after=None):
        if new.body == "3":
            {fault}
        return super().swap(group, service, kind, expected, new, not_after)


class TestFailing(ProcessConformance):
    def opener(self, folder):
        return Failing
"""
    path = pytester.makepyfile(test_failing=code)
    result = pytester.runpytest_subprocess("-q", "-k", "8_processes", path)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([says])


def test_processes_that_each_have_a_storage_of_their_own_are_found_out(
    pytester: pytest.Pytester,
) -> None:
    code = """
from turnwise.conformance import ProcessConformance
from turnwise.storages.memory import MemoryStorage


class TestApart(ProcessConformance):
    rounds_of_processes = 2

    def opener(self, folder):
        return MemoryStorage
"""
    path = pytester.makepyfile(test_apart=code)
    pytester.runpytest_subprocess("-q", path).assert_outcomes(failed=2)


def test_the_suite_says_what_a_subclass_has_to_say(pytester: pytest.Pytester) -> None:
    code = """
from turnwise.conformance import StorageConformance

class TestNothing(StorageConformance):
    pass
"""
    result = pytester.runpytest("-q", "-x", pytester.makepyfile(test_nothing=code))
    result.stdout.fnmatch_lines(["*a conformance test says how to open its storage*"])
