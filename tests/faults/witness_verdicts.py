"""What turnwise tells, row by row, against what the witness saw.

Where a fault hits a process between the end of its function and the record of it, both "it was
completed" and "its owner died" are true to what happened. Such rows are counted as *edges*.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from faults.witness_evidence import EDGE_SECONDS, FOR_EVER, JOB_OF, Evidence, Ran
from faults.witness_jobs import JOBS, TIMEOUT_UNITS, Job

Row = dict[str, Any]
NO_ATTEMPT = {"stopped", "not_started", "no_margin"}
CUT_OFF = {"owner_dead", "lost"}
ENDED_HOW = {
    "completed": {"completed"},
    "raised": {"abandoned exception:ValueError"},
    "lost": {f"abandoned {why}" for why in (*CUT_OFF, "exception:TurnLostError")},
    "cancelled": {f"abandoned {why}" for why in (*CUT_OFF, "timeout", "stopped")},
}
"""What the history may say of a run by what the witness saw of its end."""


class Comparison:
    """Every row of the audit and the history of one storage against the witness.

    Attributes:
        of_service: the history of each service.
        counts: how many rows of each kind there were.
        disagreements: each row that the witness contradicts, and how.
    """

    def __init__(
        self, evidence: Evidence, audits: list[Row], history: dict[str, list[Row]]
    ) -> None:
        self._seen = evidence
        self._periods = {
            audit["service"]: {_seconds(row["due"]): row for row in audit["periods"]}
            for audit in audits
        }
        self.of_service = history
        self._commands = {
            service: [row for row in rows if row["kind"] == "command"]
            for service, rows in history.items()
        }
        self._rows = {
            row["id"]: row | {"service": service}
            for service, rows in history.items()
            for row in rows
            if row["kind"] == "execution" and row["fencing_token"] is not None
        }
        self.counts: Counter[str] = Counter()
        self.disagreements = [
            *self._of_runs(),
            *self._of_rows_without_runs(),
            *self._of_overlaps(),
            *self._of_commands(),
            *(said for job in JOBS for said in self._of_periods(job)),
        ]

    @property
    def agrees(self) -> bool:
        """Whether no row disagrees with the witness."""
        return not self.disagreements

    def __str__(self) -> str:
        did = self._seen.counts
        verdicts = ", ".join(
            f"{count:,} {what}" for what, count in self.counts.items() if what.startswith("as ")
        )
        told = (
            f"{len(self._seen.runs):,} runs, {self.counts['periods']:,} periods ({verdicts}); "
            f"{did['kill']} kills, {did['suspend']} suspensions, {did['stop']} stops, "
            f"{did['paused']} pauses, {did['triggered']} triggers; {self.counts['edges']} edges, "
            f"{self.counts['never began']} admitted runs that never began; "
            f"{len(self.disagreements)} disagreements"
        )
        return "\n  ".join([told, *self.disagreements])

    # Each run ---------------------------------------------------------------------------------

    def _of_runs(self) -> Iterator[str]:
        for ran in self._seen.runs:
            row = self._rows.get(ran.run)
            if row is None:
                yield f"the history does not know {ran}"
                continue
            for name, said, saw in (
                ("service", row["service"], ran.service),
                ("runner", row["runner_id"], ran.runner),
                ("token", row["fencing_token"], ran.token),
                ("attempt", row["attempt"], ran.attempt),
                ("due", _seconds(row["due"]), ran.due / 1e6),
                ("triggered", row["trigger"] is not None, ran.triggered),
            ):
                if said != saw:
                    yield f"{name}: the history says {said}, and the witness {saw}, of {ran}"
            if _seconds(row["started_at"]) > ran.start:
                yield f"the history lets it start after it did: {row}, {ran}"
            if not self._ended_as(row, ran):
                yield f"the history says {_end_of(row)!r} of {ran}"

    def _ended_as(self, row: Row, ran: Ran) -> bool:
        """Whether the history's end of a run is true to what the witness saw."""
        life = self._seen.life_of(ran)
        end = life.dead if ran.end is None else ran.end
        was_hit = life.is_hit_within(ran.start, end + EDGE_SECONDS)
        was_stopped = life.stop_at <= end + EDGE_SECONDS
        if ran.how is None:
            return (was_hit and row["reason"] in CUT_OFF) or (
                was_stopped and row["reason"] == "stopped"
            )
        if _end_of(row) in ENDED_HOW[ran.how]:
            return was_hit or row["reason"] not in CUT_OFF
        if (was_hit and row["reason"] in CUT_OFF) or (was_stopped and row["reason"] == "stopped"):
            self.counts["edges"] += 1
            return True
        return False

    def _of_rows_without_runs(self) -> Iterator[str]:
        known = {ran.run for ran in self._seen.runs}
        for row in self._rows.values():
            if row["id"] in known:
                continue
            self.counts["never began"] += 1
            at = _seconds(row["started_at"])
            was_hit = any(
                life.runner == row["runner_id"]
                and life.is_hit_within(at - EDGE_SECONDS, at + EDGE_SECONDS)
                for life in self._seen.lives
            )
            if row["reason"] not in NO_ATTEMPT and not (was_hit and row["reason"] in CUT_OFF):
                yield f"nobody ran {row}"

    def _of_overlaps(self) -> Iterator[str]:
        """No two runs of a service at once, unless one was cut off: then it wakes up too late."""
        of_service: dict[str, list[Ran]] = defaultdict(list)
        for ran in self._seen.runs:
            of_service[ran.service].append(ran)
        for runs in of_service.values():
            latest: Ran | None = None
            for ran in runs:
                if latest is not None and self._end(latest) > ran.start:
                    life = self._seen.life_of(latest)
                    row = self._rows.get(latest.run, {})
                    cut_off = row.get("reason") in {*CUT_OFF, "stopped"}
                    if not (cut_off and life.is_hit_within(latest.start, ran.start)) and not (
                        row.get("reason") == "stopped" and life.stop_at <= ran.start
                    ):
                        yield f"two at once: {latest}, {ran}"
                if latest is None or self._end(ran) > self._end(latest):
                    latest = ran

    def _end(self, ran: Ran) -> float:
        if ran.end is not None:
            return ran.end
        life = self._seen.life_of(ran)
        return min(life.dead, life.killed_at)

    def _of_commands(self) -> Iterator[str]:
        for service, rows in self._commands.items():
            said = Counter(row["command"] for row in rows)
            pauses = len(self._seen.pauses[service])
            if (said["pause"], said["resume"]) != (pauses, pauses):
                yield f"{service}: {said['pause']} pauses in the history, and {pauses} were made"
        served: Counter[str] = Counter(
            row["trigger"]
            for row in self._rows.values()
            if row["trigger"] is not None and row["reason"] not in NO_ATTEMPT
        )
        for at, service, trigger in self._seen.triggers:
            may_wait = at > self._seen.stopping - (JOB_OF[service].period + 4) * self._seen.unit
            may_wait = may_wait or JOB_OF[service].only
            if served[trigger] != 1 and not (may_wait and not served[trigger]):
                yield f"{service}: trigger {trigger} at {at} was served {served[trigger]} times"
        for trigger in served.keys() - {trigger for _, _, trigger in self._seen.triggers}:
            yield f"nobody asked for trigger {trigger}"

    # Each period ------------------------------------------------------------------------------

    def _of_periods(self, job: Job) -> Iterator[str]:
        periods = self._periods.get(job.name, {})
        sure = dict(self._seen.dues(job))
        yield from (
            f"{job.name}: the audit does not know the period due at {due}"
            for due in sure.keys() - periods.keys()
        )
        if sure and job.later is None:
            inside = {due for due in periods if min(sure) <= due <= max(sure)}
            yield from (
                f"{job.name}: the audit invents a period due at {due}"
                for due in inside - sure.keys()
            )
        outcomes: dict[float, list[tuple[str, str]]] = defaultdict(list)
        for row in sorted(self._rows.values(), key=lambda row: row["fencing_token"]):
            if row["service"] == job.name and row["trigger"] is None:
                outcomes[_seconds(row["due"])].append((_outcome(row), row["runner_id"]))
        for due, row in sorted(periods.items()):
            self.counts["periods"] += 1
            wrong = self._wrong_with(job, due, sure.get(due), row, outcomes[due])
            if wrong is not None:
                yield f"{job.name}, due at {due:.0f}: {wrong}; {row}"

    def _wrong_with(
        self, job: Job, due: float, until: float | None, row: Row, tried: list[tuple[str, str]]
    ) -> str | None:
        """What is wrong with a verdict; None where the witness agrees.

        ``tried`` is what became of each run for it. That was held against the witness before.
        """
        outcomes = Counter(outcome for outcome, _ in tried)
        attempts = outcomes["completed"] + outcomes["failed"]
        if row["attempts"] != attempts:
            return f"the witness knows of {attempts} attempts"
        if outcomes["completed"]:
            self.counts["as served"] += 1
            return _wrong_with_served(job, row, tried)
        if row["verdict"] == "served":
            return "nobody has served it"
        if until is None or until > self._seen.stopping:
            self.counts["as before or after"] += 1
            return None
        if outcomes["failed"] >= job.attempts and not job.every_slot:
            self.counts["as failed"] += 1
            is_so = (row["verdict"], row["cause"]) == ("missed", "all_attempts_failed")
            return None if is_so else "all its attempts have failed"
        return self._wrong_with_unserved(job, due, until, row)

    def _wrong_with_unserved(self, job: Job, due: float, until: float, row: Row) -> str | None:
        pauses = self._seen.pauses[job.name]
        last = until if job.start_within is None else due + job.start_within * self._seen.unit
        if any(pause.surely_holds_at(due) for pause in pauses):
            self.counts["as paused"] += 1
            return None if row["verdict"] == "paused" else "it was paused when it was due"
        if row["verdict"] == "paused":
            self.counts["as paused in part"] += 1
            may = any(pause.may_touch(due, last) for pause in pauses)
            return None if may else "it was not paused"
        if row["verdict"] != "missed":
            return "nobody has served it, and it is over"
        self.counts[f"as {row['cause']}"] += 1
        if row["cause"] not in self._possible_causes(job, due, last):
            return "the witness knows of no such cause"
        return None

    def _possible_causes(self, job: Job, due: float, last: float) -> set[str]:
        """Why it may have been missed, as far as the witness can tell."""
        timeout = TIMEOUT_UNITS * self._seen.unit
        offering = self._seen.offering(job)
        there = [life for life in offering if life.start < last and life.dead > due]
        possible = set()
        if any(
            _seconds(other["started_at"]) < last and _ended_at(other) > due
            for other in self._rows.values()
            if other["service"] == job.name and (other["trigger"] or _seconds(other["due"]) != due)
        ):
            possible.add("another_run_in_the_way")
        if not there:
            return possible | {"nobody_was_there"}
        # Who has not shown that it takes part may not have joined yet, and who is silent counts as
        # alive for a part of its heartbeat timeout alone.
        if not any(
            self._seen.shown(life) < last
            and min(life.dead, life.killed_at, life.stop_at) > due + timeout / 3
            and not any(since < due + timeout / 3 and end > due for since, end in life.suspended)
            for life in there
        ):
            possible.add("nobody_was_there")
        since = due - timeout - job.period * self._seen.unit
        if any(
            life.is_hit_within(since, last)
            or since <= life.stop_at <= last
            or since <= life.start <= last
            for life in offering
        ):
            possible.add("nobody_could_start_in_time")
        return possible


def _wrong_with_served(job: Job, row: Row, tried: list[tuple[str, str]]) -> str | None:
    by = [runner for outcome, runner in tried if outcome == "completed"]
    if row["verdict"] != "served" or row["served_by"] != by:
        return f"it was served by {by}"
    if not job.every_slot and (len(by), row["times_served"]) != (1, 1):
        return f"it was served {len(by)} times"
    return None


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _ended_at(row: Row) -> float:
    return FOR_EVER if row["ended_at"] is None else _seconds(row["ended_at"])


def _end_of(row: Row) -> str:
    return f"{row['status'].lower()} {row['reason']}".strip()


def _outcome(row: Row) -> str:
    """What a run was for its period: completed, failed, or no attempt."""
    if row["status"].lower() == "completed":
        return "completed"
    return "none" if row["reason"] in NO_ATTEMPT else "failed"
