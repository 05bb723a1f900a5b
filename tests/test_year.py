"""A nightly job through deploys and kills: served each night, and late by what one fault costs.

The whole year takes longer than a test should: ``PYTHONPATH=tests python -m year --days 365``.
"""

from dataclasses import replace
from datetime import timedelta

import year
from turnwise.simulation import FaultKind


def test_each_night_is_served_once_and_one_fault_costs_less_than_five_minutes() -> None:
    """Three weeks: a deploy a day, half of them around 03:00, and a kill a week in the turn."""
    played = year.play(days=21, seed=1)
    assert not played.result.violations
    assert (played.result.periods_served, played.result.periods_missed) == (21, 0)
    assert len(played.completed) >= 21
    assert set(played.completed.values()) == {1}
    longest = played.longest_after_one_fault
    assert longest is not None
    assert timedelta(minutes=1) < longest.took < year.BOUND  # after a kill; none costs nothing
    assert all(len(wait.faults) > 1 for wait in played.waits if wait.took >= year.BOUND)
    assert played.result.incidents[FaultKind.DEPLOY] == 21
    assert played.result.incidents[FaultKind.KILL_IN_TURN] == 3


def test_half_of_the_deploys_are_within_five_minutes_of_the_due_instant() -> None:
    incidents = year.scenario(days=365, seed=1).incidents
    deploys = [each for each in incidents if each.kind is FaultKind.DEPLOY]
    dues = list(year.NIGHTLY.dues(year.START, year.START + timedelta(days=365)))
    pairs = zip(deploys, dues, strict=True)
    near = sum(abs(each.at + year.START - due) <= timedelta(minutes=5) for each, due in pairs)
    assert 150 < near < 215


def test_with_one_attempt_a_night_whose_turn_is_killed_is_missed() -> None:
    """The count can fail: a killed turn is a night that nobody serves where none may follow."""
    played = year.play(days=7, seed=1, settings=replace(year.SETTINGS, attempts=1))
    assert played.result.periods_missed == 1
