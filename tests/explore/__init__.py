"""Every interleaving of a few runners: the shipped machine, heartbeat, rules and memory storage.

Nothing is modelled a second time. A *world* holds copies of the shipped machines, the messages
that are on their way, and a storage in memory; a *step* is one thing that may happen next. The
rooms, from the bottom up:

``names``       names that differ only in their numbers, so that equal states can be told
``canon``       a state as one hashable value, whatever its runs and versions are called
``relevant``    what of a process's knowledge can still play a part
``process``     one life of a runner, and what it has sent
``world``       all that there is at one instant
``steps``       what may happen next, and what it does
``invariants``  what may never happen
``liveness``    what must happen once faults have ended
``rooms``       settings and instants
``search``      every state that can be reached
``twins``       whether states that count as one have one future
``walks``       long random walks
``scripts``     one interleaving, step by step
``breaks``      the shipped code with one repair taken out
"""
