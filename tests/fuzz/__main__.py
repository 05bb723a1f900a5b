"""Let atheris look for bytes that break a promise.

    PYTHONPATH=tests python -m fuzz TARGET CORPUS [--runs 1000000] [libFuzzer's own options]

``CORPUS`` is a folder that keeps the inputs which were worth to be kept, and begins with some of
chance. A finding is written to a file in the working directory, whose path in place of the
folder runs it again.
"""

import argparse
import random
import sys
from pathlib import Path

import atheris

# What a storage's URL is read by reaches further than our own branches do.
_READERS = ["sqlalchemy.engine.url", "redis.connection", "urllib.parse"]
_SEEDS, _LONGEST_SEED = 300, 200

with atheris.instrument_imports(include=["turnwise", *_READERS]):
    from fuzz.targets import TARGETS


def main() -> None:
    """Fuzz one target, as told on the command line."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--runs", type=int, default=1_000_000)
    options, others = parser.parse_known_args()
    if not options.corpus.exists():
        _sow(options.corpus)
    # Seeds that reach nothing new are kept, too: what grows from long ones does not from short.
    of_fuzzer = [f"-runs={options.runs}", "-keep_seed=1", *others]
    atheris.Setup([sys.argv[0], *of_fuzzer, str(options.corpus)], TARGETS[options.target])
    atheris.Fuzz()


def _sow(folder: Path) -> None:
    folder.mkdir(parents=True)
    chance = random.Random(1)  # noqa: S311 (no secret)
    for number in range(_SEEDS):
        (folder / f"seed-{number}").write_bytes(chance.randbytes(chance.randrange(_LONGEST_SEED)))


if __name__ == "__main__":
    main()
