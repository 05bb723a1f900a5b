"""The gate as a Runner sees it: an answer that is lost is found out, and nothing is done twice."""

import pytest

from turnwise import StorageError
from turnwise.atomic_service import AtomicServiceRun
from turnwise.backends import Look
from turnwise.backends.memory import MemoryBackend
from turnwise.old_gate import Gate
from turnwise.testing import SETTINGS, START, ManualClock
from turnwise.testing.desk import ABANDONED, COMPLETED, SECOND, run_of
from virtual import SERVICE, Faulty

TIMEOUT = SETTINGS.heartbeat_timeout.total_seconds()
SLOT = 18.0  # of three runners, without its guard time
DOUBLING = [0.1, 0.2, 0.4, 0.8, 1.6]


class Passage:
    """One run at the gate, on a storage that can fail; how long it slept between its tries."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.backend = MemoryBackend(self.clock)
        self.storage = Faulty(self.backend)
        self.stopped = False
        self.slept: list[float] = []
        self.gate = Gate(
            self.storage.reached(),
            SERVICE,
            SETTINGS,
            monotonic=self.clock.monotonic,
            sleep=self.sleep,
            stop_requested=lambda: self.stopped,
        )
        self.run = run_of("a", START)
        self.look: Look = self.backend.peek(SERVICE, SETTINGS)

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.clock.sleep(seconds)

    def close_at(self, call: int, operation: str) -> None:
        """Let somebody else close the run before the n-th call of an operation."""

        def close() -> None:
            if self.storage.calls[operation] == call:
                self.backend.finish(SERVICE, run_id(self.run), ABANDONED, "owner_dead", SETTINGS)

        self.storage.before[operation] = close


def run_id(run: AtomicServiceRun) -> str:
    return run.atomic_service_id.atomic_service_run_id


@pytest.fixture
def passage() -> Passage:
    return Passage()


# Admission ----------------------------------------------------------------------------------


def test_an_answer_is_handed_on(passage: Passage) -> None:
    admission = passage.gate.admit(passage.run, passage.look)
    assert (admission.fencing_token, admission.now) == (1, START)
    again = passage.gate.admit(run_of("b", START), passage.look)
    assert again.refusal == f"prior_running:{run_id(passage.run)}"
    assert passage.storage.calls == {"admit": 2}


def test_an_admission_whose_answer_was_lost_is_found_and_nothing_is_inserted_again(
    passage: Passage, caplog: pytest.LogCaptureFixture
) -> None:
    passage.storage.fail("admit", after=True)
    passage.storage.fail("execution", times=2)
    passage.storage.before["execution"] = lambda: passage.clock.advance(SECOND)
    admission = passage.gate.admit(passage.run, passage.look)
    assert (admission.fencing_token, admission.now, admission.refusal) == (1, START, "")
    assert passage.run.started_at == START
    assert passage.storage.calls == {"admit": 1, "execution": 3}
    assert passage.slept == DOUBLING[:2]
    said = f"asking for {passage.run.atomic_service_id}: no connection for execution"
    assert [record.message for record in caplog.records] == [said] * 2


def test_a_request_that_did_not_arrive_is_no_admission(passage: Passage) -> None:
    passage.storage.fail("admit")
    with pytest.raises(StorageError) as caught:
        passage.gate.admit(passage.run, passage.look)
    assert str(caught.value) == (
        f"run {run_id(passage.run)} was not admitted: no connection for admit"
    )
    assert isinstance(caught.value.__cause__, StorageError)
    assert passage.storage.calls == {"admit": 1, "execution": 1}


def test_a_run_that_was_closed_before_its_admission_was_known_is_a_refusal(
    passage: Passage,
) -> None:
    passage.storage.fail("admit", after=True)
    passage.close_at(1, "execution")
    admission = passage.gate.admit(passage.run, passage.look)
    assert (admission.fencing_token, admission.refusal) == (None, "abandoned:owner_dead")
    assert (admission.now, admission.retry_at) == (START, None)


@pytest.mark.parametrize("with_slot", [True, False])
def test_the_storage_is_asked_until_the_slot_ends_counted_from_before_the_request_left(
    passage: Passage, with_slot: bool
) -> None:
    left = SLOT if with_slot else SETTINGS.interval.total_seconds()
    if not with_slot:
        passage.run.slot_end = None
    passage.storage.before["admit"] = lambda: passage.clock.advance(6 * SECOND)
    passage.storage.fail("admit")
    passage.storage.fail("execution", times=1000)
    with pytest.raises(StorageError) as caught:
        passage.gate.admit(passage.run, passage.look)
    assert str(caught.value) == (
        f"whether run {run_id(passage.run)} was admitted is not known: no connection for admit"
    )
    assert passage.clock.monotonic() == left
    assert passage.slept[:5] == DOUBLING
    assert set(passage.slept[5:-1]) == {2.0}
    assert passage.slept[-1] == 0.9, "the last try is when the slot ends"
    assert passage.storage.calls["execution"] == len(passage.slept) + 1
    assert passage.storage.calls["admit"] == 1


def test_who_was_asked_to_stop_asks_once_and_takes_an_answer_that_comes(passage: Passage) -> None:
    passage.stopped = True
    passage.storage.fail("admit", after=True, times=2)
    assert passage.gate.admit(passage.run, passage.look).fencing_token == 1
    passage.storage.fail("execution", times=1000)
    with pytest.raises(StorageError, match="was admitted is not known"):
        passage.gate.admit(passage.run, passage.look)
    assert passage.slept == []


# Closing ------------------------------------------------------------------------------------


def admitted(passage: Passage) -> Passage:
    passage.gate.admit(passage.run, passage.look)
    return passage


@pytest.mark.parametrize("after", [True, False])
def test_closing_is_repeated_until_it_is_answered_and_recorded_once(
    passage: Passage, after: bool, caplog: pytest.LogCaptureFixture
) -> None:
    admitted(passage).storage.fail("finish", after=after, times=3)
    record = passage.gate.close(passage.run, ABANDONED, "exit:1")
    assert record is not None
    assert (record.status, record.reason) == (ABANDONED, "exit:1")
    assert passage.slept == DOUBLING[:3]
    assert passage.backend.executions(SERVICE) == (record,)
    assert record.end_time == (START if after else passage.clock())
    lost = "the answer to finish was lost" if after else "no connection for finish"
    said = f"closing {passage.run.atomic_service_id}: {lost}"
    assert [entry.message for entry in caplog.records] == [said] * 3


def test_closing_is_given_up_when_the_storage_gives_up_the_run(passage: Passage) -> None:
    admitted(passage).storage.down = True
    began = passage.clock.monotonic()
    with pytest.raises(StorageError) as caught:
        passage.gate.close(passage.run, COMPLETED, "")
    assert (
        str(caught.value) == f"closing run {run_id(passage.run)} failed: no connection for finish"
    )
    assert isinstance(caught.value.__cause__, StorageError)
    assert passage.clock.monotonic() - began == TIMEOUT
    assert passage.storage.calls["finish"] == len(passage.slept) + 1


def test_what_is_not_kept_any_more_is_none(passage: Passage) -> None:
    assert passage.gate.close(passage.run, COMPLETED, "") is None


def test_what_somebody_else_had_closed_stands(passage: Passage) -> None:
    admitted(passage).close_at(1, "finish")
    record = passage.gate.close(passage.run, COMPLETED, "")
    assert record is not None
    assert (record.status, record.reason) == (ABANDONED, "owner_dead")
