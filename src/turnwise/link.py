"""Whether the storage answers: said once when it goes, and once when it is back.

Two threads ask the storage, each for something else: these are its *lanes*. The storage is away
while the last request of any lane failed.
"""

from turnwise.events import Event, StorageBack, StorageLost

OPENING = "opening"
WORK = "work"
HEARTBEATS = "heartbeats"


class Link:
    """What is known of the storage. Times are microseconds on the monotonic clock.

    Args:
        group: the group's name, for the events.
        runner_id: this runner, for the events.
        at: now.
    """

    def __init__(self, group: str, runner_id: str, at: int) -> None:
        self.since = at
        self.error: str | None = None
        self.has_answered = False
        self._named = {"group": group, "runner_id": runner_id}
        self._failing: set[str] = set()

    @property
    def is_failing(self) -> bool:
        """Whether the last request of any lane failed."""
        return bool(self._failing)

    @property
    def answers(self) -> bool:
        """Whether the storage has answered, and still does."""
        return self.has_answered and not self._failing

    def fails_in(self, lane: str) -> bool:
        """Whether the last request of a lane failed."""
        return lane in self._failing

    def note(self, lane: str, error: str | None, at: int) -> list[Event]:
        """A request of a lane was answered, or failed with ``error``."""
        was_failing, answered = self.is_failing, self.answers
        if error is None:
            self._failing.discard(lane)
            self.has_answered = True
        else:
            self._failing.add(lane)
            self.error = error
        away = at - self.since
        if self.answers != answered or self.is_failing != was_failing:
            self.since = at
        if error is not None and not was_failing:
            return [StorageLost(**self._named, error=error)]
        if was_failing and not self.is_failing:
            return [StorageBack(**self._named, after=away)]
        return []
