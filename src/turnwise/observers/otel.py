"""Metrics and traces by OpenTelemetry (extra ``otel``).

The API alone is asked. Where a program has set up no SDK, its instruments do nothing, at a cost of
some microseconds for each turn. ::

    scheduler = Scheduler(observers=[OpenTelemetry()])

=================================== ================= =============================================
metric                              kind, unit        attributes beside the group
=================================== ================= =============================================
``turnwise.turns``                  counter, {turn}   service, ``turnwise.status``,
                                                      ``turnwise.reason``
``turnwise.turn.duration``          histogram, s      service, ``turnwise.status``
``turnwise.turn.lateness``          histogram, s      service
``turnwise.periods.missed``         counter, {period} service, ``turnwise.cause``
``turnwise.last_success.age``       gauge, s          service
``turnwise.storage.duration``       histogram, s      ``turnwise.storage.operation``, ``error.type``
                                                      where it failed
=================================== ================= =============================================

A turn is counted and timed once, by the process that it ran in; the duration is the function's.
The lateness is from the due instant to the admission; a triggered run has none. Every process
tells the age of the last success as it knows it: a process learns of another one's success when it
looks again, at the latest a period after. So the least age of a service among its processes is the
one to watch.

A **span** of a turn lasts from the start of its function to its end. It is a trace of its own, and
it is active while the function runs, so that the job's own spans are its children; a program that
takes its turns itself calls :meth:`OpenTelemetry.active`.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from threading import Lock
from typing import Final

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.metrics import (
    Histogram,
    Meter,
    MeterProvider,
    Observation,
    get_meter,
)
from opentelemetry.trace import Span, Status, StatusCode, Tracer, TracerProvider

from turnwise.atomic_service import AtomicServiceExecutionStatus
from turnwise.cycles import SECOND, instant
from turnwise.events import (
    Event,
    Looked,
    PeriodMissed,
    ServiceEvent,
    ServiceLeft,
    StorageAsked,
    TurnEnded,
    TurnLost,
    TurnOverdue,
    TurnStarted,
)
from turnwise.turn import Turn

DURATION_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14_400)
"""Upper bounds of the buckets for how long turns take, in seconds."""

LATENESS_BUCKETS: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Upper bounds of the buckets for how late turns start, in seconds."""

STORAGE_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5, 10)
"""Upper bounds of the buckets for how long the storage takes to answer, in seconds."""

MOST_REASONS: Final = 64
OTHER_REASON: Final = "other"
"""What stands for a reason once there were ``MOST_REASONS`` different ones."""

_NAME: Final = "turnwise"


class OpenTelemetry:
    """Counts, times and traces the turns of one scheduler. See the module for what is measured.

    Args:
        meter_provider: makes the instruments; the global one by default.
        tracer_provider: makes the spans; the global one by default.
        monotonic: gives seconds that only grow, for the age of the last success.
    """

    def __init__(
        self,
        *,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracer: Tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        self._instruments = _Instruments(get_meter(_NAME, meter_provider=meter_provider), self)
        self._monotonic = monotonic
        self._lock = Lock()
        self._spans: dict[str, tuple[str, Span, int]] = {}  # by service: run, span, start in ns
        self._successes: dict[tuple[str, str], float] = {}  # when, on the monotonic clock
        self._reasons: set[str] = set()
        self._hear: dict[type[Event], Callable[..., None]] = {
            Looked: self._looked,
            PeriodMissed: self._missed,
            ServiceLeft: self._left,
            StorageAsked: self._asked,
            TurnEnded: self._ended,
            TurnLost: self._note_in_span,
            TurnOverdue: self._note_in_span,
            TurnStarted: self._started,
        }

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        hear = self._hear.get(type(event))
        if hear is not None:
            hear(event)

    def active(self, turn: Turn) -> AbstractContextManager[Span]:
        """Make a turn's span the active one in a block, for a program that takes its turns itself.

        ::

            with scheduler.turn("nightly") as turn:
                if turn is not None:
                    with observer.active(turn):
                        make_the_report(turn.due)
        """
        run_id, span, _ = self._spans.get(turn.service, ("", trace.INVALID_SPAN, 0))
        of_turn = span if run_id == turn.run_id else trace.INVALID_SPAN
        return trace.use_span(of_turn, record_exception=False, set_status_on_exception=False)

    # What is heard ----------------------------------------------------------------------------

    def _started(self, event: TurnStarted) -> None:
        now = time.time_ns()
        span = self._tracer.start_span(
            f"turn {event.service}",
            context=contexts.Context(),  # a trace of its own, whatever the program was doing
            attributes=_of_turn(event),
            start_time=now,
        )
        left = self._spans.pop(event.service, None)
        if left is not None:  # its end was never recorded
            left[1].end()
        self._spans[event.service] = (event.run_id, span, now)
        # The function runs in this very context, and nothing else does: see turnwise.events.
        contexts.attach(trace.set_span_in_context(span))
        if not event.triggered:
            late = (event.started_at - event.due) / SECOND
            self._instruments.lateness.record(max(0.0, late), _of(event))

    def _ended(self, event: TurnEnded) -> None:
        attributes = {**_of(event), "turnwise.status": str(event.status)}
        took = event.took / SECOND
        self._instruments.duration.record(took, attributes)
        reason = self._bounded(event.reason)
        self._instruments.turns.add(1, {**attributes, "turnwise.reason": reason})
        if event.status is AtomicServiceExecutionStatus.COMPLETED and event.recorded:
            self._succeeded(event, self._monotonic())
        self._end_span(event)

    def _end_span(self, event: TurnEnded) -> None:
        run_id, span, start = self._spans.get(event.service, ("", trace.INVALID_SPAN, 0))
        if run_id != event.run_id:
            return  # it was never started
        del self._spans[event.service]
        span.set_attribute("turnwise.status", str(event.status))
        span.set_attribute("turnwise.recorded", event.recorded)
        if event.status is not AtomicServiceExecutionStatus.COMPLETED:
            span.set_attribute("error.type", event.reason)
            span.set_status(Status(StatusCode.ERROR, event.reason))
        span.end(start + event.took * 1000)

    def _note_in_span(self, event: TurnLost | TurnOverdue) -> None:
        run_id, span, _ = self._spans.get(event.service, ("", trace.INVALID_SPAN, 0))
        if run_id != event.run_id:
            return
        if isinstance(event, TurnLost):
            span.add_event("turn lost", {"turnwise.why": event.why})
        else:
            span.add_event("turn overdue", {"turnwise.timeout": event.timeout / SECOND})

    def _looked(self, event: Looked) -> None:
        if event.success is not None:
            age = max(0, event.now - event.success) / SECOND
            self._succeeded(event, self._monotonic() - age)

    def _succeeded(self, event: ServiceEvent, at: float) -> None:
        with self._lock:
            self._successes[event.group, event.service] = at

    def _left(self, event: ServiceLeft) -> None:
        """Nobody here would learn of its successes any more, and its age would only grow."""
        with self._lock:
            self._successes.pop((event.group, event.service), None)

    def _missed(self, event: PeriodMissed) -> None:
        self._instruments.missed.add(
            event.count, {**_of(event), "turnwise.cause": self._bounded(event.why)}
        )

    def _asked(self, event: StorageAsked) -> None:
        attributes = {
            "turnwise.group": event.group,
            "turnwise.storage.operation": event.operation,
        }
        if event.error is not None:
            attributes["error.type"] = "storage_error"
        self._instruments.storage.record(event.took / SECOND, attributes)

    # Small things -----------------------------------------------------------------------------

    def ages(self) -> list[Observation]:
        """How old the last success of each service is, in seconds, as this process knows it."""
        now = self._monotonic()
        with self._lock:
            successes = list(self._successes.items())
        return [
            Observation(max(0.0, now - at), {"turnwise.group": group, "turnwise.service": service})
            for (group, service), at in successes
        ]

    def _bounded(self, reason: str) -> str:
        """A reason without what differs each time, such as ids; of few different ones."""
        word, colon, rest = reason.partition(":")
        short = reason if word == "exception" and colon and rest else word
        with self._lock:
            if short not in self._reasons:
                if len(self._reasons) >= MOST_REASONS:
                    return OTHER_REASON
                self._reasons.add(short)
        return short


class _Instruments:
    """What is counted and timed."""

    def __init__(self, meter: Meter, observer: OpenTelemetry) -> None:
        self.turns = meter.create_counter(
            "turnwise.turns", unit="{turn}", description="Turns that have ended."
        )
        self.missed = meter.create_counter(
            "turnwise.periods.missed",
            unit="{period}",
            description="Periods that have passed, and nobody has served them.",
        )
        self.duration = _seconds(
            meter, "turn.duration", "How long the function of a turn took.", DURATION_BUCKETS
        )
        self.lateness = _seconds(
            meter,
            "turn.lateness",
            "How long after its due instant a turn was admitted.",
            LATENESS_BUCKETS,
        )
        self.storage = _seconds(
            meter,
            "storage.duration",
            "How long the storage took to answer, or to fail.",
            STORAGE_BUCKETS,
        )
        meter.create_observable_gauge(
            "turnwise.last_success.age",
            callbacks=[lambda _: observer.ages()],
            unit="s",
            description="How long ago the last run that completed has ended.",
        )


def _seconds(meter: Meter, name: str, said: str, buckets: Sequence[float]) -> Histogram:
    return meter.create_histogram(
        f"turnwise.{name}",
        unit="s",
        description=said,
        explicit_bucket_boundaries_advisory=buckets,
    )


def _of(event: ServiceEvent) -> dict[str, str]:
    return {"turnwise.group": event.group, "turnwise.service": event.service}


def _of_turn(event: TurnStarted) -> dict[str, str | int | bool]:
    return {
        **_of(event),
        "turnwise.runner": event.runner_id,
        "turnwise.run_id": event.run_id,
        "turnwise.fencing_token": event.token,
        "turnwise.due": instant(event.due).isoformat(),
        "turnwise.attempt": event.attempt,
        "turnwise.triggered": event.triggered,
    }
