"""Let atheris look for bytes that break a promise.

    PYTHONPATH=tests python -m fuzz TARGET [--runs 1000000] [libFuzzer's own options]

A finding is kept in a file beside the working directory, whose path as the last argument runs it
again.
"""

import argparse
import sys

import atheris

with atheris.instrument_imports(include=["turnwise"]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Fuzz one target, as told on the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=1_000_000)
    options, others = parser.parse_known_args()
    atheris.Setup([sys.argv[0], f"-runs={options.runs}", *others], TARGETS[options.target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
