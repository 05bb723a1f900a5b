"""When a process that was asked to stop leaves.

Functions at work have their grace. The process leaves when all machines have finished, which they
have once their last words are in the storage. A storage that is away has a few seconds to hear
them, from when no function is at work any more. Times are microseconds on the monotonic clock.
"""

from turnwise.cycles import SECOND

LAST_WORDS = 5 * SECOND
"""How long a storage that is away has to hear how the last turns have ended."""


class Leaving:
    """How far a process is with its stop.

    Attributes:
        grace_ends: when functions at work are cancelled; None for never.
        last_words_end: when the process leaves, whatever is unsaid; None while functions work.
    """

    def __init__(self) -> None:
        self.grace_ends: int | None = None
        self.last_words_end: int | None = None

    def give_grace_until(self, at: int) -> None:
        """Of several requests to stop, the one whose grace ends first counts."""
        self.grace_ends = at if self.grace_ends is None else min(at, self.grace_ends)

    def may_leave(self, at: int, *, is_all_said: bool, is_at_work: bool) -> bool:
        """Whether all is said, or the storage has had enough time to hear it."""
        if is_all_said:
            return True
        if is_at_work:
            self.last_words_end = None
            return False
        if self.last_words_end is None:
            self.last_words_end = at + LAST_WORDS
        return at >= self.last_words_end
