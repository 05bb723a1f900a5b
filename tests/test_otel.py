"""Metrics and traces, as OpenTelemetry's SDK and its Prometheus exporter give them."""

import asyncio
import contextvars
import dataclasses
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest
from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from prometheus_client import generate_latest

from live import Heard, due
from turnwise import events
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.events import TurnEnded
from turnwise.observers import otel
from turnwise.observers.otel import (
    DURATION_BUCKETS,
    LATENESS_BUCKETS,
    MOST_REASONS,
    STORAGE_BUCKETS,
    OpenTelemetry,
)
from turnwise.scheduler import Scheduler
from turnwise.storages import Storage
from turnwise.testing import fake_turn
from turnwise.turn import Turn

DUE = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
SECOND = 1_000_000
SERVICE: dict[str, Any] = {"group": "g", "runner_id": "a", "service": "job"}
TURN: dict[str, Any] = {**SERVICE, "run_id": "run", "token": 7, "due": DUE}
STARTED = events.TurnStarted(**TURN, attempt=1, started_at=DUE + 2 * SECOND)


def ended(
    status: Status = Status.COMPLETED, reason: str = "", *, recorded: bool = True
) -> TurnEnded:
    return TurnEnded(
        **TURN, status=status, reason=reason, attempt=1, took=3 * SECOND, recorded=recorded
    )


@dataclass
class Setup:
    """An observer with an SDK of its own; ``now`` is its monotonic clock, in seconds."""

    observer: OpenTelemetry
    reader: InMemoryMetricReader
    exporter: InMemorySpanExporter
    tracer: trace.Tracer
    clock: list[float]

    def points(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """The points of a metric: its attributes, and its value or histogram."""
        data = self.reader.get_metrics_data()
        return [
            (dict(point.attributes or {}), getattr(point, "value", point))
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        """The spans that have ended, by name."""
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture
def setup() -> Iterator[Setup]:
    reader, exporter, clock = InMemoryMetricReader(), InMemorySpanExporter(), [1000.0]
    meters, tracers = MeterProvider([reader], shutdown_on_exit=False), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    observer = OpenTelemetry(
        meter_provider=meters, tracer_provider=tracers, monotonic=lambda: clock[0]
    )
    yield Setup(observer, reader, exporter, tracers.get_tracer("job"), clock)
    meters.shutdown()
    tracers.shutdown()


def apart(observer: OpenTelemetry, *heard: events.Event) -> None:
    """Have it hear events in a context of their own, as a scheduler does."""
    for event in heard:
        contextvars.copy_context().run(observer, event)


# Metrics ------------------------------------------------------------------------------------------


def test_a_turn_is_counted_and_timed_once_by_its_status_and_reason(setup: Setup) -> None:
    apart(setup.observer, STARTED, ended())
    apart(setup.observer, STARTED, ended(Status.ABANDONED, "exception:ValueError"))
    of_job = {"turnwise.group": "g", "turnwise.service": "job"}
    completed = of_job | {"turnwise.status": "completed"}
    failed = of_job | {"turnwise.status": "abandoned"}
    counted = {
        (point["turnwise.status"], point["turnwise.reason"]): count
        for point, count in setup.points("turnwise.turns")
    }
    assert counted == {("completed", ""): 1, ("abandoned", "exception:ValueError"): 1}
    durations = {
        point["turnwise.status"]: (point, histogram.sum)
        for point, histogram in setup.points("turnwise.turn.duration")
    }
    assert durations == {"completed": (completed, 3.0), "abandoned": (failed, 3.0)}


def test_a_turn_is_as_late_as_it_was_admitted_after_its_due_instant(setup: Setup) -> None:
    apart(setup.observer, STARTED)
    ((attributes, histogram),) = setup.points("turnwise.turn.lateness")
    assert (attributes, histogram.sum) == (
        {"turnwise.group": "g", "turnwise.service": "job"},
        2.0,
    )


def test_a_turn_that_was_triggered_is_not_late(setup: Setup) -> None:
    apart(
        setup.observer,
        events.TurnStarted(**TURN, attempt=1, started_at=DUE + 2 * SECOND, triggered=True),
    )
    assert setup.points("turnwise.turn.lateness") == []


@pytest.mark.parametrize(
    ("name", "buckets"),
    [
        ("turnwise.turn.duration", DURATION_BUCKETS),
        ("turnwise.turn.lateness", LATENESS_BUCKETS),
        ("turnwise.storage.duration", STORAGE_BUCKETS),
    ],
)
def test_the_buckets_of_a_histogram_are_set(
    setup: Setup, name: str, buckets: tuple[float, ...]
) -> None:
    """The SDK's own begin at 5, and are made for milliseconds."""
    asked = events.StorageAsked(group="g", runner_id="a", operation="read", took=1_500, error=None)
    apart(setup.observer, STARTED, ended(), asked)
    ((_, histogram),) = setup.points(name)
    assert isinstance(histogram, HistogramDataPoint)
    assert tuple(histogram.explicit_bounds) == buckets == tuple(sorted(buckets))


def test_the_answers_of_the_storage_are_timed_by_what_it_was_asked(setup: Setup) -> None:
    for operation, took, error in (("read", 1_500, None), ("swap", 2_500, "refused")):
        setup.observer(
            events.StorageAsked(
                group="g", runner_id="a", operation=operation, took=took, error=error
            )
        )
    timed = {
        point["turnwise.storage.operation"]: (point.get("error.type"), histogram.sum)
        for point, histogram in setup.points("turnwise.storage.duration")
    }
    assert timed == {"read": (None, 0.0015), "swap": ("storage_error", 0.0025)}


def test_a_period_that_was_missed_is_counted_by_its_cause(setup: Setup) -> None:
    missed = events.PeriodMissed(**SERVICE, due=DUE, until=DUE + SECOND, why="attempts_used")
    setup.observer(missed)
    setup.observer(dataclasses.replace(missed, count=3))
    ((attributes, count),) = setup.points("turnwise.periods.missed")
    assert (attributes["turnwise.cause"], count) == ("attempts_used", 4)


def test_the_age_of_the_last_success_grows_from_the_end_of_a_turn_of_ones_own(
    setup: Setup,
) -> None:
    apart(setup.observer, STARTED, ended())
    setup.clock[0] += 5
    assert [age for _, age in setup.points("turnwise.last_success.age")] == [5.0]


def test_the_age_of_the_last_success_is_known_from_a_look_where_another_process_had_it(
    setup: Setup,
) -> None:
    setup.observer(events.Looked(**SERVICE, now=DUE, success=DUE - 60 * SECOND))
    setup.clock[0] += 5
    assert [age for _, age in setup.points("turnwise.last_success.age")] == [65.0]


def test_a_service_that_was_removed_has_no_age_any_more(setup: Setup) -> None:
    other = {**SERVICE, "service": "other"}
    setup.observer(events.Looked(**SERVICE, now=DUE, success=DUE))
    setup.observer(events.Looked(**other, now=DUE, success=DUE))
    setup.observer(events.ServiceLeft(**SERVICE))
    left = [point["turnwise.service"] for point, _ in setup.points("turnwise.last_success.age")]
    assert left == ["other"]


@pytest.mark.parametrize(
    "end", [ended(Status.ABANDONED, "timeout"), ended(recorded=False)], ids=["failed", "buried"]
)
def test_a_turn_that_did_not_serve_its_period_is_no_success(setup: Setup, end: TurnEnded) -> None:
    apart(setup.observer, STARTED, end)
    assert setup.points("turnwise.last_success.age") == []


def test_nobody_can_make_a_metric_grow_by_the_texts_of_reasons(setup: Setup) -> None:
    """What differs each time is cut off, and of the rest a bounded number is told apart."""
    for number in range(2 * MOST_REASONS):
        apart(setup.observer, STARTED, ended(Status.ABANDONED, f"prior_running:{number}"))
    reasons = {point["turnwise.reason"] for point, _ in setup.points("turnwise.turns")}
    assert reasons == {"prior_running"}
    for number in range(2 * MOST_REASONS):
        apart(setup.observer, STARTED, ended(Status.ABANDONED, f"customer {number}"))
    reasons = {point["turnwise.reason"] for point, _ in setup.points("turnwise.turns")}
    assert len(reasons) == MOST_REASONS + 1
    assert otel.OTHER_REASON in reasons


# Traces -------------------------------------------------------------------------------------------


def run_one(setup: Setup, job: Any) -> None:
    """Have a scheduler serve a job once."""
    heard = Heard()
    scheduler = Scheduler(cast("Storage", due()), runner_id="a", observers=(setup.observer, heard))
    scheduler.add(job, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)


def require_child_of_turn(setup: Setup, *names: str) -> None:
    """Each span of the job is a child of the turn's, which is a root."""
    turn = setup.spans["turn job"]
    assert turn.parent is None
    for name in names:
        parent = setup.spans[name].parent
        assert parent is not None, name
        assert parent.span_id == turn.context.span_id, name


def test_the_spans_of_a_plain_function_are_children_of_its_turns(setup: Setup) -> None:
    def job() -> None:
        with setup.tracer.start_as_current_span("inner"):
            pass

    run_one(setup, job)
    require_child_of_turn(setup, "inner")


def test_the_spans_of_a_coroutine_its_tasks_and_its_threads_are_children_of_its_turns(
    setup: Setup,
) -> None:
    def work(name: str) -> None:
        with setup.tracer.start_as_current_span(name):
            pass

    async def task() -> None:
        work("task")

    async def job() -> None:
        work("coroutine")
        await asyncio.create_task(task())
        await asyncio.to_thread(work, "thread")

    run_one(setup, job)
    require_child_of_turn(setup, "coroutine", "task", "thread")


def test_the_spans_of_an_awaitable_that_a_plain_function_gives_back_are_children_of_its_turns(
    setup: Setup,
) -> None:
    async def later() -> None:
        with setup.tracer.start_as_current_span("inner"):
            pass

    run_one(setup, lambda turn: later() if turn else None)
    require_child_of_turn(setup, "inner")


def test_a_turn_is_a_trace_of_its_own_where_the_program_starts_within_a_span(
    setup: Setup,
) -> None:
    with setup.tracer.start_as_current_span("start-up"):
        run_one(setup, lambda: None)
        assert trace.get_current_span().get_span_context().span_id != 0
    assert setup.spans["turn job"].parent is None


def test_no_turn_leaves_its_span_active_in_the_schedulers_own_threads(setup: Setup) -> None:
    seen: list[trace.Span] = []

    def look(event: events.Event) -> None:
        if isinstance(event, TurnEnded | events.RunnerLeft):
            seen.append(trace.get_current_span())

    heard = Heard()
    scheduler = Scheduler(
        cast("Storage", due()), runner_id="a", observers=(setup.observer, look, heard)
    )
    scheduler.add(None, "every 1m", name="wanted")
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
        with scheduler.turn("wanted"):
            pass
    heard.wait_for(events.RunnerLeft)
    of_driver = seen[-1]
    assert of_driver is trace.INVALID_SPAN


def test_a_program_that_takes_its_turns_itself_may_make_their_span_the_active_one(
    setup: Setup,
) -> None:
    heard = Heard()
    scheduler = Scheduler(cast("Storage", due()), runner_id="a", observers=(setup.observer, heard))
    scheduler.add(None, "every 1m", name="job")
    with scheduler:
        heard.wait_for(events.CyclePlanned)
        with scheduler.turn("job") as turn:
            assert isinstance(turn, Turn)
            with setup.observer.active(turn), setup.tracer.start_as_current_span("inner"):
                pass
            with setup.tracer.start_as_current_span("outer"):
                pass
        heard.wait_for(TurnEnded)
    require_child_of_turn(setup, "inner")
    assert setup.spans["outer"].parent is None


def test_a_turn_of_nobody_has_no_span_to_be_active(setup: Setup) -> None:
    with setup.observer.active(fake_turn()) as span:
        assert span is trace.INVALID_SPAN


def test_a_span_lasts_as_long_as_its_function_and_says_how_it_ended(setup: Setup) -> None:
    lost = events.TurnLost(**TURN, why="silent")
    overdue = events.TurnOverdue(**TURN, timeout=2 * SECOND)
    apart(setup.observer, STARTED, lost, overdue, ended(Status.ABANDONED, "lost"))
    span = setup.spans["turn job"]
    assert span.start_time is not None
    assert span.end_time == span.start_time + 3_000_000_000
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "lost"
    assert [event.name for event in span.events] == ["turn lost", "turn overdue"]
    attributes = dict(span.attributes or {})
    assert attributes["turnwise.fencing_token"] == 7
    assert attributes["turnwise.due"] == "2026-01-01T00:00:00+00:00"
    assert attributes["error.type"] == "lost"


def test_what_is_said_of_another_run_does_not_go_into_the_span_of_this_one(setup: Setup) -> None:
    other = events.TurnLost(**TURN | {"run_id": "other"}, why="silent")
    apart(setup.observer, STARTED, other, ended())
    assert setup.spans["turn job"].events == ()


def test_a_turn_that_ends_well_is_no_error(setup: Setup) -> None:
    apart(setup.observer, STARTED, ended())
    assert setup.spans["turn job"].status.status_code is StatusCode.UNSET


def test_a_span_whose_end_was_never_told_ends_as_the_next_turn_of_its_service_starts(
    setup: Setup,
) -> None:
    apart(setup.observer, STARTED)
    assert not setup.spans
    other = events.TurnStarted(**TURN | {"run_id": "other"}, attempt=2, started_at=DUE + 2 * SECOND)
    apart(setup.observer, other)
    assert list(setup.spans) == ["turn job"]
    apart(setup.observer, ended())  # too late, and of the first one
    assert len(setup.exporter.get_finished_spans()) == 1


def test_a_run_that_was_never_started_is_counted_and_has_no_span(setup: Setup) -> None:
    apart(setup.observer, ended(Status.ABANDONED, "no_margin"))
    assert [point["turnwise.reason"] for point, _ in setup.points("turnwise.turns")] == [
        "no_margin"
    ]
    assert not setup.spans


# Beside others ------------------------------------------------------------------------------------


def test_prometheus_gets_the_names_units_and_buckets_that_the_docs_have() -> None:
    meters = MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False)
    observer = OpenTelemetry(meter_provider=meters)
    apart(observer, STARTED, ended())
    observer(events.PeriodMissed(**SERVICE, due=DUE, until=DUE + SECOND, why="no_turn"))
    observer(events.StorageAsked(group="g", runner_id="a", operation="read", took=1, error=None))
    text = generate_latest().decode()
    meters.shutdown()
    for name in (
        "turnwise_turns_total",
        "turnwise_turn_duration_seconds_bucket",
        "turnwise_turn_lateness_seconds_bucket",
        "turnwise_periods_missed_total",
        "turnwise_last_success_age_seconds",
        "turnwise_storage_duration_seconds_bucket",
    ):
        assert f"\n{name}{{" in text, text
    assert 'turnwise_service="job"' in text
    assert 'le="14400"' in text


def test_without_an_sdk_it_does_nothing_and_stops_nothing() -> None:
    heard = Heard()
    scheduler = Scheduler(cast("Storage", due()), runner_id="a", observers=(OpenTelemetry(), heard))
    done = threading.Event()
    scheduler.add(done.set, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    assert done.is_set()


def test_a_scheduler_tells_each_request_to_its_storage_with_its_time() -> None:
    heard = Heard()
    scheduler = Scheduler(cast("Storage", due()), runner_id="a", observers=(heard,))
    scheduler.add(lambda: None, "every 1m", name="job")
    with scheduler:
        heard.wait_for(TurnEnded)
    asked = heard.of(events.StorageAsked)
    assert {"heartbeat", "offer", "read", "stable", "swap"} <= {each.operation for each in asked}
    assert all(each.took >= 0 and each.error is None for each in asked)
