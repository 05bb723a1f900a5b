"""Each job of a program runs once, in one of its replicas: no leader, no lock holder.

The face: few names, which need the standard library alone. Start with :class:`Scheduler`, or with
:func:`decide_atomic_service_claim` where you keep your own storage.
"""

from turnwise.atomic_service import (
    ActiveRunnerInfo,
    AtomicServiceClaim,
    decide_atomic_service_claim,
)
from turnwise.controls import Controls
from turnwise.errors import (
    MissingExtraError,
    StorageError,
    TurnFailedError,
    TurnLostError,
    TurnwiseError,
)
from turnwise.schedules import Cron, Every
from turnwise.scheduler import Scheduler
from turnwise.settings import Settings
from turnwise.storages.opening import open_storage
from turnwise.turn import Turn

__version__ = "0.2.0"

__all__ = [
    "ActiveRunnerInfo",
    "AtomicServiceClaim",
    "Controls",
    "Cron",
    "Every",
    "MissingExtraError",
    "Scheduler",
    "Settings",
    "StorageError",
    "Turn",
    "TurnFailedError",
    "TurnLostError",
    "TurnwiseError",
    "__version__",
    "decide_atomic_service_claim",
    "open_storage",
]
