"""What callers rely on: frozen claims however they are made, the builder's parameters, the list."""

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta
from unittest import mock
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies import Situation, few_runners, runners, situations
from turnwise import atomic_service
from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    AtomicServiceDecisionReason,
    AtomicServiceId,
    _ClaimBuilder,
    _fresh_run_id,
    decide_atomic_service_claim,
)

Reason = AtomicServiceDecisionReason
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FIELDS = [field.name for field in dataclasses.fields(AtomicServiceClaim)]

# Three runners, slots of 100 s with 20 s of guard time; r1 is in the middle of its slot.
USUAL = Situation(3, NOON.timestamp() + 150, 5.0, 1 / 3)
EVERY_ROW = {
    "no runners": USUAL.decide("r0", []),
    "stranger": USUAL.ask(-1),
    "no window": replace(USUAL, margin_minutes=2.0).ask(1),
    "grace": replace(USUAL, stabilization_seconds=1e12).ask(1),
    "another's slot": USUAL.ask(2),
    "late": replace(USUAL, max_fraction=0.5).ask(1),
    "cleared": USUAL.ask(1),
}


def made_by_constructor(claim: AtomicServiceClaim) -> AtomicServiceClaim:
    return AtomicServiceClaim(*[getattr(claim, name) for name in FIELDS])


def outcome(call: Callable[[], object]) -> object:
    """What a call answers, or the type and text of its exception."""
    try:
        return call()
    except (AttributeError, TypeError) as error:
        return type(error), str(error)


def test_the_claims_here_are_of_every_row_of_the_table() -> None:
    assert {claim.reason for claim in EVERY_ROW.values()} == set(Reason)


@pytest.mark.parametrize("row", EVERY_ROW)
def test_a_decided_claim_is_the_one_that_the_constructor_makes(row: str) -> None:
    claim = EVERY_ROW[row]
    made = made_by_constructor(claim)
    assert type(claim) is type(made) is AtomicServiceClaim
    for name in FIELDS:
        assert getattr(claim, name) is getattr(made, name)
    assert claim == made
    assert repr(claim) == repr(made)
    assert repr(claim).startswith("AtomicServiceClaim(runner_id=")
    # A claim with a run has no hash, as a run can be stamped.
    assert outcome(lambda: hash(claim)) == outcome(lambda: hash(made))
    assert sorted(dir(claim)) == sorted(dir(made))
    assert claim.__sizeof__() == made.__sizeof__()


@pytest.mark.parametrize("row", EVERY_ROW)
def test_a_decided_claim_refuses_each_assignment_and_deletion(row: str) -> None:
    claim = EVERY_ROW[row]
    before = repr(claim)
    for name in FIELDS:
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(claim, name, None)
        with pytest.raises(FrozenInstanceError, match=f"cannot delete field '{name}'"):
            delattr(claim, name)
    # Names that are no fields, and its class, are refused by the constructor's claim as well.
    for name, value in (("unknown", 1), ("__class__", object)):
        refused = outcome(lambda: setattr(claim, name, value))  # noqa: B023 (called at once)
        made = made_by_constructor(claim)
        assert refused == outcome(lambda: setattr(made, name, value))  # noqa: B023
        assert isinstance(refused, tuple)
    assert repr(claim) == before
    assert type(claim) is AtomicServiceClaim


@pytest.mark.parametrize("row", EVERY_ROW)
def test_a_decided_claim_can_be_pickled_copied_replaced_and_taken_apart(row: str) -> None:
    claim = EVERY_ROW[row]
    made = made_by_constructor(claim)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        kept = pickle.dumps(claim, protocol)
        assert b"Unfrozen" not in kept
        loaded = pickle.loads(kept)  # noqa: S301 (its own)
        assert (type(loaded), loaded) == (AtomicServiceClaim, claim)
    assert copy.copy(claim) == copy.deepcopy(claim) == claim
    assert replace(claim, runner_id="z") == replace(made, runner_id="z") != claim
    assert dataclasses.asdict(claim) == dataclasses.asdict(made)
    assert AtomicServiceClaim.__match_args__ == tuple(FIELDS)
    match claim:
        case AtomicServiceClaim(name, reason, assigned_runner_id=assigned):
            assert (name, reason) == (claim.runner_id, claim.reason)
            assert assigned == claim.assigned_runner_id
        case _:
            pytest.fail("a claim matches its own pattern")


def test_the_claim_stays_a_frozen_dataclass_with_slots() -> None:
    parameters = getattr(AtomicServiceClaim, "__dataclass_params__")  # noqa: B009 (for mypy)
    assert (parameters.init, parameters.eq, parameters.frozen) == (True, True, True)
    assert AtomicServiceClaim.__slots__ == tuple(FIELDS)
    assert AtomicServiceClaim.__mro__ == (AtomicServiceClaim, object)


@given(st.binary(min_size=16, max_size=16))
def test_a_fresh_run_id_is_the_uuid4_of_its_random_octets(octets: bytes) -> None:
    with mock.patch.object(atomic_service, "urandom", return_value=octets) as urandom:
        text = _fresh_run_id()
    urandom.assert_called_once_with(16)
    assert text == str(UUID(bytes=octets, version=4))
    assert (UUID(text).version, UUID(text).variant) == (4, RFC_4122)


def test_no_two_run_ids_of_many_are_the_same_and_each_random_bit_is_random() -> None:
    """Of 128 bits 6 are fixed. That another is the same 2,000 times is no coincidence."""
    ids = [AtomicServiceId("a").atomic_service_run_id for _ in range(1000)]
    for _ in range(1000):
        run = USUAL.ask(1).atomic_service_run
        assert run is not None
        assert run.atomic_service_run_id is not None
        ids.append(run.atomic_service_run_id)
    assert len(set(ids)) == 2000
    ones, zeros = 0, 0
    for text in ids:
        ones |= UUID(text).int
        zeros |= ~UUID(text).int
    assert (ones & zeros & (2**128 - 1)).bit_count() == 122


def test_the_builder_takes_its_fields_with_their_defaults_last() -> None:
    """All but the cycle's start, which it computes, and its private numbers."""
    parameters = inspect.signature(_ClaimBuilder).parameters
    empty = inspect.Parameter.empty
    assert {name: parameter.default for name, parameter in parameters.items()} == {
        "runner_id": empty,
        "started_at": empty,
        "current_time": empty,
        "interval_seconds": empty,
        "spread_minutes": empty,
        "stabilization_seconds": empty,
        "stable_runner_count": 0,
        "assigned_runner_id": None,
        "runner_position": None,
        "slot_start": None,
        "slot_end": None,
        "is_slot_owner_now": False,
    }
    assert [*parameters] == [
        field.name for field in dataclasses.fields(_ClaimBuilder) if field.init
    ]


def test_a_builder_that_is_given_everything_builds_what_its_mutators_would_have_noted() -> None:
    now = NOON + 110 * SECOND
    start = ("r1", now, now.timestamp(), 300.0, 0.0, 0.0)
    noted = _ClaimBuilder(*start)
    noted.use_runners(3, "r1")
    noted.set_position(1)
    noted.set_slot((100_000_000, 200_000_000), is_owner=True)
    given_all = _ClaimBuilder(
        *start,
        stable_runner_count=3,
        assigned_runner_id="r1",
        runner_position=1,
        slot_start=NOON + 100 * SECOND,
        slot_end=NOON + 200 * SECOND,
        is_slot_owner_now=True,
    )
    assert given_all == noted
    assert given_all.not_in_slot() == noted.not_in_slot()


def test_the_builders_build_takes_the_reason_and_what_differs_by_name() -> None:
    signature = inspect.signature(_ClaimBuilder._build)
    assert str(signature.replace(return_annotation=inspect.Signature.empty)) == (
        "(self, reason: turnwise.atomic_service.AtomicServiceDecisionReason, *, "
        "atomic_service_run: turnwise.atomic_service.AtomicServiceRun | None = None, "
        "skip_message: str = '', late_start_fraction: float | None = None)"
    )
    builder = _ClaimBuilder("a", NOON, NOON.timestamp(), 300.0, 0.0, 0.0)
    plain = builder._build(Reason.NOT_ASSIGNED_SLOT)
    assert plain == AtomicServiceClaim("a", Reason.NOT_ASSIGNED_SLOT, NOON)
    told = builder._build(Reason.LATE_START, skip_message="so", late_start_fraction=0.5)
    assert (told.skip_message, told.late_start_fraction) == ("so", 0.5)


@given(situations(few_runners), st.integers(-1, 11), st.lists(st.text(), max_size=3))
def test_the_queues_that_a_runner_works_on_change_nothing(
    situation: Situation, position: int, queues: list[str]
) -> None:
    among = [
        ActiveRunnerInfo(
            runner_id=runner.runner_id,
            creation_time=runner.creation_time,
            last_heartbeat=runner.last_heartbeat,
            allow_to_run_atomic_service=True,
            consumed_queues=tuple(queues),
        )
        for runner in situation.runners
    ]
    position = min(position, situation.count - 1)
    asked = "stranger" if position == -1 else f"r{position}"
    with mock.patch.object(atomic_service, "urandom", return_value=bytes(16)):
        assert situation.decide(asked, among) == situation.ask(position)


def test_a_runner_info_has_no_queues_unless_it_says_so() -> None:
    runner = ActiveRunnerInfo("a", NOON, NOON, allow_to_run_atomic_service=True)
    assert runner.consumed_queues == ()
    assert runner._replace(consumed_queues=("mail", "bills"))[4] == ("mail", "bills")


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), st.integers(0, 300 * 10**6 - 1))
def test_where_ids_stand_more_than_once_the_first_entry_counts(
    names: list[str], now_us: int
) -> None:
    """For the position and the slot; the assigned runner is the name at the instant's slot."""
    situation = Situation(len(names), 0.0, 5.0).at(now_us)
    among = [ActiveRunnerInfo(name, NOON, NOON) for name in names]
    owner = names[now_us * len(names) // (300 * 10**6)]
    for name in "abcd":
        claim = situation.decide(name, among)
        first = names.index(name) if name in names else None
        assert claim.runner_position == first
        assert claim.assigned_runner_id == owner
        if first is None:
            assert claim.reason is Reason.NOT_ASSIGNED_SLOT
        else:
            alone = [ActiveRunnerInfo(f"r{n}", NOON, NOON) for n in range(len(names))]
            same_place = situation.decide(f"r{first}", alone)
            assert (claim.slot_start, claim.slot_end) == (
                same_place.slot_start,
                same_place.slot_end,
            )
            assert claim.should_try_start == same_place.should_try_start


class Watched(Sequence[ActiveRunnerInfo]):
    """A list of runners that counts the entries which somebody has gone through."""

    def __init__(self, entries: list[ActiveRunnerInfo]) -> None:
        self.entries = entries
        self.gone_through = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> ActiveRunnerInfo:  # type: ignore[override] # no slices
        return self.entries[index]

    def __iter__(self) -> Iterator[ActiveRunnerInfo]:
        for entry in self.entries:
            self.gone_through += 1
            yield entry


@pytest.mark.parametrize("position", [0, 1, 499, 999])
def test_nobody_is_looked_at_behind_the_caller(position: int) -> None:
    """The caller at the head of a long list does not pay for all of it."""
    among = Watched(runners(1000))
    claim = decide_atomic_service_claim(
        runner_id=f"r{position}",
        active_runners=among,
        current_time=NOON.timestamp(),
        service_interval_minutes=5.0,
        spread_margin_minutes=0.0,
        membership_stabilization_seconds=0.0,
        max_start_slot_fraction=1.0,
    )
    assert claim.runner_position == position
    assert among.gone_through == position + 1
