"""A turn that was admitted is about to start: the last look at the clock before its function does.

Between the admission and here may lie a suspension of the process, or the starts of other services.
"""

from turnwise.heartbeat import Heartbeat
from turnwise.machine import TurnState


def may_start(turn: TurnState | None, heart: Heartbeat, at: int) -> bool:
    """Whether a turn may start at ``at``; where its admission was long in coming, hurry.

    A turn that was lost meanwhile, or whose slot is over, does not start: its machine closes it
    when it is asked again. One that was last confirmed a heartbeat interval ago, or longer, has
    the next heartbeat sent at once, so that it does not begin its life half silent.

    Args:
        turn: the turn that a machine wants to be served.
        heart: the heartbeat of the process.
        at: now, in microseconds on the monotonic clock.
    """
    if turn is None or turn.is_lost(at) or at >= turn.deadline:
        return False
    if at - turn.confirmed_at >= heart.interval:
        heart.hurry(at)
    return True
