"""``python -m turnwise.simulation``: random scenarios, many or one, and what the oracles say.

The exit status is 1 where something happened that may never happen; then the command that
replays it is printed, and a scenario made small. A run that is interrupted (control-C) says what it
has seen until then, and its exit status is 130 where that was well. At the end stands how near the
scenarios came to each bound of :func:`turnwise.review.review`.
"""

import argparse
import sys
import time

from turnwise.simulation import Result, simulate
from turnwise.simulation.many import Sum, play_many
from turnwise.simulation.random_scenarios import random_scenario
from turnwise.simulation.scenario import Scenario
from turnwise.simulation.shrink import shrink

_CYCLES_EACH = 12
_INTERRUPTED = 130  # as a shell says it


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _replay(options.seed, options.cycles_each)
    began, total = time.monotonic(), Sum()
    each = max(2, options.cycles_each)
    # Half of a scenario's cycles are counted at the least, save where no gate counts them.
    seeds = options.seeds or -(-2 * options.cycles // (each // 2))
    is_whole = True
    try:
        for outcome in play_many(seeds, each, processes=options.processes):
            total.add(outcome)
            if outcome.violated:
                _say(
                    f"seed {outcome.seed}: {outcome.violated}\n"
                    f"  {replay_command(outcome.seed, options.cycles_each)}"
                )
            if sys.stderr.isatty() and outcome.seed % 50 == 0:
                sys.stderr.write(f"\r{total.cycles:,} cycles\r")
            if options.cycles and total.cycles >= options.cycles:
                break
    except KeyboardInterrupt:  # a run of hours is not for nothing
        is_whole = False
    _say(total.text(time.monotonic() - began))
    if total.failed:
        return 1
    return 0 if is_whole else _INTERRUPTED


def replay_command(seed: int, cycles_each: int = _CYCLES_EACH) -> str:
    """The command that plays a random scenario again."""
    each = "" if cycles_each == _CYCLES_EACH else f" --cycles-each {cycles_each}"
    return f"python -m turnwise.simulation --seed {seed}{each}"


def report(scenario: Scenario, result: Result) -> str:
    """What was violated, and a small scenario in which it is, too."""
    first = result.violations[0].what.split(" ", 1)[0]

    def fails(candidate: Scenario) -> bool:
        found = simulate(candidate).violations
        return bool(found) and found[0].what.split(" ", 1)[0] == first

    lines = [str(violation) for violation in result.violations]
    return "\n".join([*lines, "shrunk to:", repr(shrink(scenario, fails))])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m turnwise.simulation",
        description="Play random scenarios with the shipped code, watched by oracles.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=_natural, metavar="N", help="play one, and print its result")
    what.add_argument("--seeds", type=_natural, metavar="N", help="play the first N")
    what.add_argument("--cycles", type=_natural, metavar="N", help="play until so many cycles")
    parser.add_argument("--cycles-each", type=_natural, default=_CYCLES_EACH, metavar="N")
    parser.add_argument("--processes", type=_natural, default=1, metavar="N")
    return parser


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, got {text!r}")
    return int(text)


def _replay(seed: int, cycles_each: int) -> int:
    scenario = random_scenario(seed, cycles=max(2, cycles_each))
    result = simulate(scenario)
    _say(result.to_json())
    if not result.violations:
        return 0
    _say(report(scenario, result))
    return 1


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
