"""Slots, worked out apart from the shipped code, for the oracles."""

from turnwise.plan import CyclePlan


def slot_of(cycle: CyclePlan, position: int) -> tuple[int, int, int]:
    """The start, the latest start and the end of a slot, worked out apart from the shipped code."""
    length, count, rules = cycle.end - cycle.start, len(cycle.runners), cycle.rules
    start = cycle.start + -(-position * length // count)
    following = cycle.start + -(-(position + 1) * length // count)
    end = following if count == 1 else max(start, following - rules.margin)
    return start, start + int((end - start) * rules.window), end
