"""Whether the storage answers: said once when it goes, and once when it is back.

Two threads ask the storage, and a storage may answer reads alone (a full disk) or writes to some
records alone. So requests are told apart by their *lane*. The storage is away while the last
request of any lane failed. A lane that nobody uses any more would stay so for ever; so it is
forgotten when heartbeats are answered, and it has not failed for the link's patience.

What somebody must repair, such as tables of another version, is said as well while the storage is
away already, once for each text: the operator who was told of a refused connection would wait.
"""

from turnwise.actions import FindStable, ListOffers, Look, Request
from turnwise.events import Event, StorageBack, StorageLost

OPENING = "opening"
READS = "reads"
WRITES = "writes"
HEARTBEATS = "heartbeats"


def lane_of(request: Request) -> str:
    """The lane of a machine's request."""
    return READS if isinstance(request, FindStable | ListOffers | Look) else WRITES


class Link:
    """What is known of the storage. Times are microseconds on the monotonic clock.

    Args:
        group: the group's name, for the events.
        runner_id: this runner, for the events.
        at: now.

    Attributes:
        patience: how long a lane counts that does not fail again; more than the longest time
            between two tries of a request.
        since: since when the storage answers, or does not.
        error: what it last said when it failed.
    """

    def __init__(self, group: str, runner_id: str, at: int) -> None:
        self.patience = 0
        self.since = at
        self.error: str | None = None
        self._has_answered = False
        self._named = {"group": group, "runner_id": runner_id}
        self._failing: dict[str, int] = {}
        self._said: set[str] = set()

    @property
    def is_failing(self) -> bool:
        """Whether the last request of any lane failed."""
        return bool(self._failing)

    @property
    def answers(self) -> bool:
        """Whether the storage has answered, and still does."""
        return self._has_answered and not self._failing

    def fails_in(self, lane: str) -> bool:
        """Whether the last request of a lane failed."""
        return lane in self._failing

    def note(
        self, lane: str, error: str | None, at: int, *, needs_repair: bool = False
    ) -> list[Event]:
        """A request of a lane was answered, or failed with ``error``.

        ``needs_repair`` says that it will not get better by itself.
        """
        was_failing, answered = self.is_failing, self.answers
        if error is None:
            self._answered(lane, at)
        else:
            self._failing[lane], self.error = at, error
        away = at - self.since
        if self.answers != answered or self.is_failing != was_failing:
            self.since = at
        if not was_failing:
            self._said.clear()
        if error is not None and (not was_failing or (needs_repair and error not in self._said)):
            self._said.add(error)
            return [StorageLost(**self._named, error=error, needs_repair=needs_repair)]
        if was_failing and not self.is_failing:
            return [StorageBack(**self._named, after=away)]
        return []

    def _answered(self, lane: str, at: int) -> None:
        self._has_answered = True
        self._failing.pop(lane, None)
        if lane == HEARTBEATS:
            recent = at - self.patience
            self._failing = {name: last for name, last in self._failing.items() if last > recent}
