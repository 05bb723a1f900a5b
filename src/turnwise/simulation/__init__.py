"""What a configuration does under faults: the shipped machine and rules, in virtual time.

What it does not show
---------------------
The storage is the one in memory: what a database does by itself (a lock that waits, a failover
that forgets a part) is not in it. Processes do not compete for a processor, and code takes no time
between two waits. A fault that is not among :class:`FaultKind` does not happen.

What it does
------------
:func:`simulate` plays a :class:`Scenario`: :class:`~turnwise.machine.Machine`,
:class:`~turnwise.heartbeat.Heartbeat`, the rules of plan and gate and
:class:`~turnwise.storages.memory.MemoryStorage` as they ship, on a heap of what comes next. Faults
are drawn from the scenario's seed. Oracles watch each request and hear each event, and what they
find is in the :class:`Result`. The same scenario has the same result, in any process and on any
supported Python. Heartbeats that change nothing are counted, and left out but for the last in a row
(:mod:`.world`); the result is that of playing each of them.

:mod:`.scenario` says what is simulated, :mod:`.play` plays it, :mod:`.judge` watches; :mod:`.play`
lists the other rooms.
"""

from turnwise.simulation.play import Play as _Play
from turnwise.simulation.play import Progress
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
    return _Play(scenario).play(progress)
