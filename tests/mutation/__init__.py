"""Mutants by the thousand in minutes: mutmut makes them, and one session of pytest tries them all.

The tests are loaded once. Each mutant is tried in a fork of that session, by the tests that call
the function that it changes: those that take least time first, up to the first that fails. The
properties try few examples and shrink none. See :mod:`mutation.__main__` for how to start it.
"""
