"""Each job of a program runs once, in one of its replicas: no leader, no lock holder.

The face: few names, which need the standard library alone. Start with ``Scheduler``, or with
``decide_atomic_service_claim`` where you keep your own storage.

A name is imported when it is first asked for, so that a program that wants the decision alone does
not load what drives a scheduler.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from turnwise.scheduler import Scheduler
    from turnwise.schedules import Cron, Every
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

_HOMES = {
    "atomic_service": {"ActiveRunnerInfo", "AtomicServiceClaim", "decide_atomic_service_claim"},
    "controls": {"Controls"},
    "errors": {
        "MissingExtraError",
        "StorageError",
        "TurnFailedError",
        "TurnLostError",
        "TurnwiseError",
    },
    "schedules": {"Cron", "Every"},
    "scheduler": {"Scheduler"},
    "settings": {"Settings"},
    "storages.opening": {"open_storage"},
    "turn": {"Turn"},
}


if not TYPE_CHECKING:  # pragma: no branch (a type checker would take every name for ours)

    def __getattr__(name: str) -> object:
        """A name of the face, imported from its home."""
        for home, names in _HOMES.items():
            if name in names:
                found = getattr(import_module(f"turnwise.{home}"), name)
                globals()[name] = found
                return found
        raise AttributeError(f"module 'turnwise' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The names of the face, imported or not."""
    return sorted({*globals(), *__all__})
