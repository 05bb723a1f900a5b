"""What decisions are taken on: runners, settings of a cycle, and instants near its edges."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    decide_atomic_service_claim,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
LONG_AGO = datetime(1, 1, 2, tzinfo=UTC)

# A float of Unix seconds is exact to the microsecond between these years.
EXACT_FROM_US = -(2**33) * 1_000_000 + 1
EXACT_TO_US = 2**33 * 1_000_000 - 1
YEAR_9000_S = 221_845_392_000.0


def instant(microseconds: int) -> datetime:
    return EPOCH + microseconds * MICROSECOND


def microseconds(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND


def between(least: timedelta, most: timedelta) -> st.SearchStrategy[timedelta]:
    """Durations in whole microseconds; ``st.timedeltas`` takes four times as long to draw one."""
    return st.integers(least // MICROSECOND, most // MICROSECOND).map(lambda us: us * MICROSECOND)


def seconds(microseconds: int) -> float:
    """Unix seconds as a caller would hand them in."""
    return microseconds / 1_000_000


@dataclass(frozen=True)
class Situation:
    """Everything that a decision is taken on but who asks."""

    count: int
    current_time: float
    interval_minutes: float
    margin_minutes: float = 0.0
    stabilization_seconds: float = 0.0
    max_fraction: float = 1.0

    @property
    def interval_us(self) -> int:
        return round(self.interval_minutes * 60 * 1_000_000)

    @property
    def margin_us(self) -> int:
        return round(self.margin_minutes * 60_000_000)

    @property
    def now_us(self) -> int:
        return microseconds(datetime.fromtimestamp(self.current_time, UTC))

    @property
    def runners(self) -> list[ActiveRunnerInfo]:
        return runners(self.count)

    def ask(self, position: int) -> AtomicServiceClaim:
        """The claim of the runner at a position, from 0; of a stranger for -1."""
        return self.decide("stranger" if position == -1 else f"r{position}")

    def decide(
        self, runner_id: str, among: list[ActiveRunnerInfo] | None = None
    ) -> AtomicServiceClaim:
        return decide_atomic_service_claim(
            runner_id=runner_id,
            active_runners=self.runners if among is None else among,
            current_time=self.current_time,
            service_interval_minutes=self.interval_minutes,
            spread_margin_minutes=self.margin_minutes,
            membership_stabilization_seconds=self.stabilization_seconds,
            max_start_slot_fraction=self.max_fraction,
        )

    def claims(self) -> list[AtomicServiceClaim]:
        """The claim of everybody in the list."""
        among = self.runners
        return [self.decide(runner.runner_id, among) for runner in among]

    def at(self, now_us: int) -> "Situation":
        return replace(self, current_time=seconds(now_us))


def runners(count: int, created: datetime = LONG_AGO) -> list[ActiveRunnerInfo]:
    return [ActiveRunnerInfo(f"r{number}", created, created) for number in range(count)]


# Whole ones, as people write them, and ones that no slot divides.
intervals_minutes = st.one_of(
    st.sampled_from([0.1, 0.25, 1.0, 2.0, 3.0, 5.0, 7.0, 15.0, 60.0, 1440.0]),
    st.floats(min_value=0.001, max_value=100_000.0),
    st.sampled_from([3 / 512, 9.255782741997825, 8.75554137707433, 525.33 / 60, 1 / 3]),
)
few_runners = st.integers(min_value=1, max_value=12)
many_runners = st.one_of(few_runners, st.integers(min_value=1, max_value=1000))
fractions = st.one_of(
    st.sampled_from([0.1, 0.25, 0.5, 0.99, 1.0]),
    st.floats(min_value=0, max_value=1, exclude_min=True),
)
margins_of_interval = st.one_of(
    st.just(0.0), st.floats(min_value=0, max_value=1), st.sampled_from([1 / 15, 0.25, 1 / 3, 0.5])
)
stabilizations = st.one_of(st.just(0.0), st.floats(min_value=0, max_value=1e6))
anywhere_seconds = st.floats(min_value=-1e10, max_value=YEAR_9000_S)


@st.composite
def instants_us(draw: st.DrawFn, interval_us: int, count: int) -> int:
    """An instant that a float holds exactly: anywhere, or within 2 µs of a slot's edge."""
    # So far from the ends of the exact range that a step of some cycles stays inside it.
    room = 3 * interval_us
    anywhere = draw(st.integers(min_value=EXACT_FROM_US + room, max_value=EXACT_TO_US - room))
    if draw(st.booleans()):
        return anywhere
    position = draw(st.integers(min_value=0, max_value=count))
    edge = -(-position * interval_us // count)
    return anywhere - anywhere % interval_us + edge + draw(st.integers(-2, 2))


@st.composite
def situations(
    draw: st.DrawFn,
    counts: st.SearchStrategy[int] = few_runners,
    *,
    margin: bool = True,
    late: bool = True,
) -> Situation:
    """A situation whose instant is a whole microsecond, near a slot's edge half of the time."""
    interval = draw(intervals_minutes)
    count = draw(counts)
    made = Situation(count, 0.0, interval)
    if margin:
        made = replace(made, margin_minutes=interval * draw(margins_of_interval))
    if late:
        made = replace(made, max_fraction=draw(fractions))
    return made.at(draw(instants_us(made.interval_us, count)))
