"""Contracts on the decision's helpers, for crosshair to confirm over all paths.

Each function states in ``pre:`` what may be asked and in ``post:`` what the shipped helper then
answers. ``test_contracts.py`` runs crosshair over them and reads what it says.
"""

from datetime import UTC, datetime

from turnwise.atomic_service import (
    ActiveRunnerInfo,
    _is_in_grace,
    _late_start_fraction,
    _slot_window,
)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
JOINED_AT_THE_EPOCH = ActiveRunnerInfo("r0", EPOCH, EPOCH)


def a_window_lies_inside_the_cycle(position: int, interval: int, margin: int) -> bool:
    """Of four runners.

    pre: 0 <= position < 4
    pre: interval > 0
    pre: margin >= 0
    post: __return__
    """
    window = _slot_window(0, position, (interval, 4), margin, single_runner=False)
    return window is None or 0 <= window[0] < window[1] <= interval


def a_window_moves_with_its_cycle(cycle_start: int, position: int, interval: int) -> bool:
    """Of three runners.

    pre: 0 <= position < 3
    pre: interval >= 3
    post: __return__
    """
    here = _slot_window(cycle_start, position, (interval, 3), 0, single_runner=False)
    there = _slot_window(0, position, (interval, 3), 0, single_runner=False)
    if here is None or there is None:
        return False
    return here == (cycle_start + there[0], cycle_start + there[1])


def a_window_is_the_slot_less_its_margin(position: int, interval: int, margin: int) -> bool:
    """Of five runners.

    pre: 0 <= position < 5
    pre: interval >= 5
    pre: margin >= 0
    post: __return__
    """
    whole = _slot_window(0, position, (interval, 5), 0, single_runner=False)
    window = _slot_window(0, position, (interval, 5), margin, single_runner=False)
    if whole is None:
        return False
    if window is None:
        return margin >= whole[1] - whole[0]
    return window == (whole[0], whole[1] - margin)


def neighbouring_windows_touch_without_a_margin(position: int, interval: int) -> bool:
    """Of seven runners.

    pre: 0 <= position < 6
    pre: interval >= 7
    post: __return__
    """
    this = _slot_window(0, position, (interval, 7), 0, single_runner=False)
    following = _slot_window(0, position + 1, (interval, 7), 0, single_runner=False)
    return this is not None and following is not None and this[1] == following[0]


def a_lone_runner_has_the_whole_cycle_whatever_the_margin(
    cycle_start: int, interval: int, margin: int
) -> bool:
    """A cycle of its own.

    pre: interval > 0
    pre: margin >= 0
    post: __return__
    """
    window = _slot_window(cycle_start, 0, (interval, 1), margin, single_runner=True)
    return window == (cycle_start, cycle_start + interval)


def a_start_at_the_slots_start_is_never_late(start: int, length: int) -> bool:
    """Nor one before it.

    pre: length > 0
    post: __return__
    """
    return _late_start_fraction(start, start, start + length, 0.5) is None


def without_a_bound_no_start_is_late(started_at: int, bound: int) -> bool:
    """Whichever bound is missing.

    post: __return__
    """
    return (
        _late_start_fraction(started_at, None, bound, 0.5) is None
        and _late_start_fraction(started_at, bound, None, 0.5) is None
    )


def a_maximum_of_one_or_more_disables_the_check(
    started_at: int, slot_start: int, slot_end: int
) -> bool:
    """So does one of nothing.

    post: __return__
    """
    return (
        _late_start_fraction(started_at, slot_start, slot_end, 1.0) is None
        and _late_start_fraction(started_at, slot_start, slot_end, 0.0) is None
    )


def a_grace_of_a_minute_ends_with_its_last_microsecond(now: int) -> bool:
    """Of a runner that joined at the epoch.

    post: __return__
    """
    return _is_in_grace(JOINED_AT_THE_EPOCH, now, 60.0) == (now < 60_000_000)


def control_every_slot_is_as_long_as_the_next(position: int, interval: int) -> bool:
    """False: where nothing divides the interval, slots differ by a microsecond.

    pre: 0 <= position < 2
    pre: interval >= 3
    post: __return__
    """
    this = _slot_window(0, position, (interval, 3), 0, single_runner=False)
    following = _slot_window(0, position + 1, (interval, 3), 0, single_runner=False)
    if this is None or following is None:
        return False
    return this[1] - this[0] == following[1] - following[0]
