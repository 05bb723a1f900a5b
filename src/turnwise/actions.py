"""What a machine asks of whoever drives it, and what it is told.

:class:`turnwise.machine.Machine` performs no I/O. Its ``next(at)`` gives one of the *actions*
below. Whoever drives it carries the action out and hands the *answer* to ``receive(at, answer)``.
The times ``at`` and ``until`` are microseconds on the driver's monotonic clock.
"""

from dataclasses import dataclass

from turnwise.atomic_service import AtomicServiceExecutionStatus
from turnwise.gate import Run
from turnwise.storages import (
    Beat,
    Entry,
    Kind,
    Offer,
    OfferRow,
    Pulse,
    Record,
    ServiceReading,
    StableSet,
    Swapped,
)

# Actions ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MakeOffer:
    """Call the storage's ``offer``; answer :class:`Offered`."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class Look:
    """Call the storage's ``read`` for the service; answer :class:`Seen`."""


@dataclass(frozen=True, slots=True)
class FindStable:
    """Call the storage's ``stable``; answer its :class:`~turnwise.storages.StableSet`."""

    rotation: int
    limit: int | None
    among: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListOffers:
    """Call the storage's ``offers``; answer :class:`OffersListed`."""


@dataclass(frozen=True, slots=True)
class Swap:
    """Call the storage's ``swap``; answer its :class:`~turnwise.storages.Swapped`."""

    kind: Kind
    expected: str | None
    new: Record
    not_after: int | None = None


@dataclass(frozen=True, slots=True)
class Append:
    """Call the storage's ``append``; answer :class:`Done`."""

    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Purge:
    """Call the storage's ``purge``, and its ``purge_runners``; answer :class:`Done`.

    Lives that were last heard of before the instant ``silent_before`` are forgotten.
    """

    before: int
    keep: int
    spare: tuple[str, ...]
    silent_before: int


@dataclass(frozen=True, slots=True)
class Advance:
    """Call the storage's ``advance``, so that everybody looks again; answer :class:`Done`."""


@dataclass(frozen=True, slots=True)
class Serve:
    """Start the function for a run; answer :class:`Begun`, and :class:`FunctionEnded` later."""

    run: Run
    last_served: int | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until ``until`` (None: until something is told); answer :class:`Elapsed`.

    A wait may be cut short: call ``next`` again whenever something else was told.
    """

    until: int | None


@dataclass(frozen=True, slots=True)
class Finished:
    """The machine was stopped, and has nothing left to do."""


Request = MakeOffer | Look | FindStable | ListOffers | Swap | Append | Purge | Advance
"""An action that asks the storage; where its answer is lost, tell :class:`Failed`."""

Action = Request | Serve | Wait | Finished

# Answers, and what else a machine is told ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offered:
    """The answer to :class:`MakeOffer`."""

    revision: int


@dataclass(frozen=True, slots=True)
class Seen:
    """The answer to :class:`Look`: the storage's now and revision, and what it keeps."""

    now: int
    revision: int
    service: ServiceReading


@dataclass(frozen=True, slots=True)
class OffersListed:
    """The answer to :class:`ListOffers`."""

    offers: tuple[OfferRow, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """The answer to a request that answers nothing."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The storage did not answer a request; what it did is not known.

    ``needs_repair`` says that it will not get better by itself: its tables are not as they must be.
    """

    error: str
    needs_repair: bool = False


@dataclass(frozen=True, slots=True)
class NotSent:
    """The request was not carried out, because what led to it may have changed: look again."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The function runs."""


@dataclass(frozen=True, slots=True)
class FunctionEnded:
    """The function has ended, or could not be started (``not_started``)."""

    status: AtomicServiceExecutionStatus
    reason: str = ""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The function is about to have its run completed in a transaction of its own.

    From here on only the storage knows whether the run was completed, however the function ends.
    """

    run_id: str


@dataclass(frozen=True, slots=True)
class Elapsed:
    """The time of a :class:`Wait` has come."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A heartbeat of the process, which left at ``sent``, was answered."""

    beat: Beat
    sent: int
    pulse: Pulse


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The machine shall start no turn any more; one that is at work goes on until it ends."""


@dataclass(frozen=True, slots=True)
class TurnWanted:
    """The program asks for a turn now, or (``is_wanted`` False) does so no longer.

    Only for a machine that was made with ``on_demand``.
    """

    is_wanted: bool = True


Answer = (
    Offered
    | Seen
    | StableSet
    | OffersListed
    | Swapped
    | Done
    | Failed
    | NotSent
    | Begun
    | FunctionEnded
    | HandedOver
    | Elapsed
    | Heard
    | StopRequested
    | TurnWanted
)
