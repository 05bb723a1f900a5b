"""What a configuration does under faults: the shipped runner and rules, in virtual time.

What it does not show
---------------------
The storage is the one in memory: what a database does by itself (a lock that waits, a failover
that forgets) is not in it. Processes do not compete for a processor, and code takes no time
between two waits. A fault that is not among :class:`FaultKind` does not happen.

What it does
------------
:func:`simulate` plays a :class:`Scenario`: :class:`~turnwise.runner.Runner`,
the thread that keeps a turn alive, the rules and
:class:`~turnwise.backends.memory.MemoryBackend` as they ship, on SimPy's queue of events.
Faults are drawn from the scenario's seed. Oracles watch each operation, and what they find is
in the :class:`Result`. The same scenario has the same result, in any process and on any
supported Python.

Needs the extra ``sim``.
"""

from turnwise.backends import MissingExtraError

try:
    import greenlet as _greenlet  # noqa: F401 (asked for here, so that one line says what is missing)
    import simpy as _simpy  # noqa: F401
except ImportError as error:
    raise MissingExtraError(
        "turnwise.simulation needs SimPy and greenlet: install turnwise[sim]"
    ) from error

from turnwise.simulation.laboratory import Laboratory as _Laboratory
from turnwise.simulation.laboratory import Progress
from turnwise.simulation.result import Result, Spread
from turnwise.simulation.scenario import (
    NOTHING,
    Distribution,
    Fault,
    FaultKind,
    Fixed,
    HeavyTail,
    Incident,
    LogNormal,
    Scenario,
    Uniform,
)
from turnwise.simulation.violations import Violation

__all__ = [
    "NOTHING",
    "Distribution",
    "Fault",
    "FaultKind",
    "Fixed",
    "HeavyTail",
    "Incident",
    "LogNormal",
    "Progress",
    "Result",
    "Scenario",
    "Spread",
    "Uniform",
    "Violation",
    "simulate",
]


def simulate(scenario: Scenario, *, progress: Progress | None = None) -> Result:
    """Play a scenario to its end.

    Args:
        scenario: what is simulated.
        progress: is called some 200 times with the part that is done, from 0 to 1.
    """
    return _Laboratory(scenario).play(progress)
