"""N runners take turns at one service by the clock: no leader, no lock holder, one at a time.

The face of the layers that need the standard library alone. Start with :class:`Runner` and
:func:`open_backend`, or with :func:`decide_atomic_service_claim` where you keep your own
storage.
"""

from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    AtomicServiceDecisionReason,
    AtomicServiceExecution,
    AtomicServiceExecutionStatus,
    AtomicServiceId,
    AtomicServiceRun,
    decide_atomic_service_claim,
)
from turnwise.backends import (
    Backend,
    ExecutionRecord,
    MissingExtraError,
    StorageError,
    open_backend,
)
from turnwise.membership import Cycle, RunnerRecord, cycle_at, schedule, stable_set
from turnwise.old_review import Finding, Level, Review
from turnwise.old_settings import Settings
from turnwise.old_turn import Turn, TurnFailed, TurnLost
from turnwise.own_process import ForkError
from turnwise.runner import Runner
from turnwise.timetable import NextTurn, Role, Slot, lay_out, next_turn

__all__ = [
    "ActiveRunnerInfo",
    "AtomicServiceClaim",
    "AtomicServiceDecisionReason",
    "AtomicServiceExecution",
    "AtomicServiceExecutionStatus",
    "AtomicServiceId",
    "AtomicServiceRun",
    "Backend",
    "Cycle",
    "ExecutionRecord",
    "Finding",
    "ForkError",
    "Level",
    "MissingExtraError",
    "NextTurn",
    "Review",
    "Role",
    "Runner",
    "RunnerRecord",
    "Settings",
    "Slot",
    "StorageError",
    "Turn",
    "TurnFailed",
    "TurnLost",
    "cycle_at",
    "decide_atomic_service_claim",
    "lay_out",
    "next_turn",
    "open_backend",
    "schedule",
    "stable_set",
]
