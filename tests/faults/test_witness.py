"""The audit and the history agree with a witness of their own, and the witness can tell a lie."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.storages import url_of
from faults.witness import judged, witness
from faults.witness_evidence import Evidence
from faults.witness_jobs import GRACE_SECONDS, JOBS
from faults.witness_verdicts import Comparison

pytestmark = pytest.mark.faults

UNIT = 2
Told = tuple[list[dict[str, Any]], dict[str, list[dict[str, Any]]]]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on SQLite of less than a minute."""
    folder = tmp_path_factory.mktemp("witness")
    witness(url_of("sqlite", folder), folder, minutes=0.6, unit=UNIT, seed=7)
    return folder


def told(folder: Path) -> Told:
    """What turnwise told of it: the audits, and the histories."""
    audits = json.loads((folder / "audit.json").read_text())
    return audits, json.loads((folder / "history.json").read_text())


def test_the_audit_and_the_history_agree_with_the_witness_row_by_row(played: Path) -> None:
    comparison = judged(played, UNIT)
    assert comparison.agrees, str(comparison)
    assert len(comparison.of_service) == len(JOBS) == 20
    assert comparison.counts["as served"] > 50, str(comparison)


def _periods(told: Told, verdict: str) -> list[dict[str, Any]]:
    """Those of one service, which has no other oddities, in the middle of the run."""
    audits, _ = told
    periods = next(audit["periods"] for audit in audits if audit["service"] == "quick-1")
    return [row for row in periods[3:-3] if row["verdict"] == verdict]


def _runs(told: Told) -> list[dict[str, Any]]:
    _, history = told
    return [row for row in history["quick-1"] if row["kind"] == "execution"]


def _served_is_missed(told: Told) -> None:
    _periods(told, "served")[0].update(verdict="missed", cause="nobody_was_there")


def _served_by_another(told: Told) -> None:
    _periods(told, "served")[0]["served_by"] = ["somebody"]


def _served_twice(told: Told) -> None:
    _periods(told, "served")[0]["times_served"] = 2


def _another_attempt(told: Told) -> None:
    _periods(told, "served")[0]["attempts"] += 1


def _a_period_is_not_told(told: Told) -> None:
    audits, _ = told
    periods = next(audit["periods"] for audit in audits if audit["service"] == "quick-1")
    periods.remove(_periods(told, "served")[0])


def _a_run_is_not_told(told: Told) -> None:
    _, history = told
    history["quick-1"].remove(_runs(told)[3])


def _a_run_is_invented(told: Told) -> None:
    _, history = told
    history["quick-1"].append(_runs(told)[3] | {"id": "invented"})


def _a_run_ended_otherwise(told: Told) -> None:
    _runs(told)[3].update(status="abandoned", reason="exception:ValueError")


def _a_run_had_another_token(told: Told) -> None:
    _runs(told)[3]["fencing_token"] += 1000


def _a_pause_is_invented(told: Told) -> None:
    _, history = told
    history["quick-1"].append({"kind": "command", "command": "pause", "id": "invented"})


LIES: tuple[Callable[[Told], None], ...] = (
    _served_is_missed,
    _served_by_another,
    _served_twice,
    _another_attempt,
    _a_period_is_not_told,
    _a_run_is_not_told,
    _a_run_is_invented,
    _a_run_ended_otherwise,
    _a_run_had_another_token,
    _a_pause_is_invented,
)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__.strip("_"))
def test_the_witness_sees_each_lie(played: Path, lie: Callable[[Told], None]) -> None:
    said = told(played)
    lie(said)
    evidence = Evidence.read(played, unit=UNIT, grace=GRACE_SECONDS)
    assert not Comparison(evidence, *said).agrees
