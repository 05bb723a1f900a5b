"""Explore on demand: every interleaving within a scope, or a long random walk.

For example, from the project's folder::

    PYTHONPATH=tests python -m explore search --cycles 4 --faults 1 --crash 1 --restart 1
    PYTHONPATH=tests python -m explore search --room mixed --cycles 2 --faults 1 --suspend 1
    PYTHONPATH=tests python -m explore walk --steps 10000000 --seed 1
"""

import argparse
import sys
import time
from collections.abc import Sequence

from explore import rooms
from explore.search import Found, prepared, search
from explore.steps import KINDS
from explore.walks import ALL_FAULTS, Walk, walk
from explore.world import SECOND

ROOMS = {
    "narrow": rooms.NARROW,
    "wide": rooms.WIDE,
    "hasty": rooms.HASTY,
    "alone": rooms.ALONE,
    "mixed": rooms.MIXED,
}
_AT_ONCE = 100_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Explore as the command line says, and say how far that went."""
    options = _parser().parse_args(arguments)
    began = time.process_time()
    found = _search(options) if options.what == "search" else _walk(options)
    took = time.process_time() - began
    _say(f"{found}; {took:.0f} s of processor time")
    for name, number in sorted(found.happened.items()):
        _say(f"{number:>12,}  {name}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m explore", description="Explore the shipped machine."
    )
    parts = parser.add_subparsers(dest="what", required=True)
    one = parts.add_parser("search", help="every interleaving within a scope")
    one.add_argument("--room", choices=ROOMS, default="narrow", help="settings of the runners")
    one.add_argument("--cycles", type=int, default=4, help="how many cycles of 4 s")
    one.add_argument("--faults", type=int, default=0, help="how many faults, all together")
    one.add_argument(
        "--every", type=int, choices=(1, 2), default=1, help="seconds between instants"
    )
    one.add_argument("--until", type=int, help="nothing later than so many s from the start")
    one.add_argument("--longest", type=int, default=2, help="longest time of a function, in s")
    one.add_argument("--fine", action="store_true", help="part every request, faults or not")
    one.add_argument("--cold", action="store_true", help="begin with an empty storage")
    one.add_argument("--live", type=int, default=1, help="liveness from one state in so many")
    one.add_argument("--most", type=int, help="stop after so many states")
    one.add_argument("--depth-first", action="store_true", help="less memory, longer ways")
    for kind in KINDS:
        one.add_argument(f"--{kind}", type=int, default=0, help="how often this may happen")
    two = parts.add_parser("walk", help="random walks of three runners")
    two.add_argument("--steps", type=int, default=100_000, help="how many steps")
    two.add_argument("--seed", type=int, default=0, help="where to start; each walk adds one")
    two.add_argument("--alike", action="store_true", help="all runners have the same settings")
    return parser


def _search(options: argparse.Namespace) -> Found:
    each = {kind: getattr(options, kind) for kind in KINDS}
    scope = rooms.scope(
        options.cycles,
        faults=options.faults,
        longest=options.longest,
        every=options.every,
        fine=options.fine,
        until=options.until,
        **each,
    )
    return search(
        prepared(ROOMS[options.room], until=rooms.START, cold=options.cold),
        scope,
        depth_first=options.depth_first,
        most=options.most,
        live_every=options.live,
    )


def _walk(options: argparse.Namespace) -> Found:
    runners = rooms.THREE if options.alike else rooms.THREE_MIXED
    how = Walk(runners, ALL_FAULTS, clock_steps=tuple(n * SECOND for n in (-30, -3, -1, 5, 30)))
    total = Found()
    seed = options.seed
    while total.steps < options.steps:
        found = walk(how, steps=min(_AT_ONCE, options.steps - total.steps), seed=seed)
        total.steps += found.steps
        total.states += found.states
        total.lives += found.lives
        total.happened.update(found.happened)
        seed += 1
    return total


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
