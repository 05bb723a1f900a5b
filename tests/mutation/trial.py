"""Try mutants in forks of one session of pytest; :mod:`mutation` starts it in their folder."""

import gc
import os
import pickle
import re
import resource
import signal
import sys
import time
import tomllib
from collections.abc import Generator, Iterator, Sequence
from functools import _lru_cache_wrapper
from pathlib import Path
from typing import Final, NoReturn

import pytest
from _pytest.runner import runtestprotocol

from mutation.trampoline import called, function_of

_AT_ONCE: Final = 2
_SURVIVED, _KILLED, _BROKEN = range(3)
_AT_MOST: Final = 600  # seconds for a mutant, such as one that waits for ever
_TIME, _TIMES = 3, 8  # a test may take so many seconds more, and so many times as long, as usual
_MEMORY: Final = 3 << 30
_MUTANT: Final = re.compile(r"^ *def (x\w*__mutmut_\d+)", re.MULTILINE)

Known = dict[str, tuple[float, frozenset[str]]]
"""By test: how long it takes, in seconds of the processor, and which functions it calls."""


class Trial:
    """A plugin of pytest that tries mutants in the place of running the tests once."""

    def __init__(self, results: Path, of: str, longest: float) -> None:
        self.results, self.of, self.longest = results, of, longest
        self.failing: set[str] = set()
        self.said: int | None = None  # where a fork says which test has failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Have the properties try few examples: their modules are not loaded yet."""
        from hypothesis import Phase, settings  # noqa: PLC0415 (pytest rewrites it first)

        settings.register_profile(
            "mutants",
            settings.get_profile("brief"),
            database=None,
            phases=[Phase.explicit, Phase.generate],
            report_multiple_bugs=False,
        )
        settings.load_profile("mutants")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """End at the first test that fails, before anybody puts together what to say of it."""
        has_failed = call.excinfo is not None and not call.excinfo.errisinstance(
            pytest.skip.Exception
        )
        if has_failed and self.said is not None:
            os.write(self.said, item.nodeid.encode())
            os._exit(_KILLED)
        report = yield
        if report.failed:  # such as one that reads the source, which is another one here
            self.failing.add(item.nodeid)
            sys.stderr.write(f"{item.nodeid} fails without any mutant, and is left out\n")
            sys.stderr.flush()
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Look what each test calls, and try all mutants that were not tried before."""
        known = self._known(session.items)
        tests = [item for item in session.items if item.nodeid in known]
        tests = [item for item in tests if known[item.nodeid][0] <= self.longest]
        tests.sort(key=lambda item: known[item.nodeid][0])
        forks: dict[int, tuple[str, int]] = {}
        for mutant in _not_tried(self.results, self.of):
            if len(forks) == _AT_ONCE:
                self._note(forks)
            function = function_of(mutant)
            calling = [item for item in tests if function in known[item.nodeid][1]]
            told, said = os.pipe()
            child = os.fork()
            if not child:
                self.said = said
                _try(mutant, calling, known)
            os.close(said)
            forks[child] = mutant, told
        while forks:
            self._note(forks)
        return True

    def _known(self, items: Sequence[pytest.Item]) -> Known:
        """Run each test once without a mutant, in a fork, so that nothing of it is left here."""
        kept = Path("known.pickle")
        kept.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            try:
                kept.write_bytes(pickle.dumps(self._called_by(items)))
                os._exit(0)
            finally:
                os._exit(_BROKEN)
        if os.waitpid(child, 0)[1]:
            sys.exit("the tests came to no end without a mutant")
        made: Known = pickle.loads(kept.read_bytes())  # noqa: S301 (of our own)
        return made

    def _called_by(self, items: Sequence[pytest.Item]) -> Known:
        """What each test calls, and how long it takes; those that fail are left out."""
        known: Known = {}
        for item, following in _with_next(items):
            called.clear()
            began = time.process_time()
            runtestprotocol(item, log=False, nextitem=following)
            if item.nodeid not in self.failing:
                known[item.nodeid] = time.process_time() - began, frozenset(called)
        return known

    def _note(self, forks: dict[int, tuple[str, int]]) -> None:
        """Wait for one of the forks, and write down what became of its mutant."""
        child, status = os.wait()
        mutant, told = forks.pop(child)
        test = os.read(told, 4096).decode()
        os.close(told)
        code = os.waitstatus_to_exitcode(status)
        words = {_SURVIVED: "survived", _KILLED: "killed", -signal.SIGPROF: "timeout"}
        words[-signal.SIGALRM] = "timeout"
        with self.results.open("a") as file:
            file.write(f"{words.get(code, 'broken')} {mutant} {test}\n")


def _with_next(items: Sequence[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    """Each test with the one that follows: fixtures that both need are kept."""
    return zip(items, [*items[1:], None], strict=True)


def _not_tried(results: Path, of: str) -> list[str]:
    """The mutants of which nothing is written down yet."""
    tried = set()
    if results.exists():
        tried = {line.split()[1] for line in results.read_text().splitlines()}
    mutants = []
    for path in sorted(Path("src").rglob("*.py")):
        module = ".".join(path.with_suffix("").parts[1:]).removesuffix(".__init__")
        found = _MUTANT.findall(path.read_text())
        mutants += [f"{module}.{name}" for name in found]
    return [mutant for mutant in mutants if mutant.startswith(of) and mutant not in tried]


def _try(mutant: str, tests: Sequence[pytest.Item], known: Known) -> NoReturn:
    """Run tests with a mutant in this fork, and end it."""
    try:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(nowhere, stream)
        gc.unfreeze()  # what was frozen when the tests were loaded
        for each in gc.get_objects():
            if isinstance(each, _lru_cache_wrapper):
                each.cache_clear()  # what the session has worked out without a mutant
        function_of(mutant, choose=True)
        signal.alarm(_AT_MOST)
        for item, following in _with_next(tests):
            signal.setitimer(signal.ITIMER_PROF, _TIME + _TIMES * known[item.nodeid][0])
            runtestprotocol(item, log=False, nextitem=following)
        os._exit(_SURVIVED)
    finally:
        os._exit(_BROKEN)


def main() -> None:
    """Start the session, with the tests that mutmut would run."""
    results, of, longest = sys.argv[1:]
    mutmut = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["mutmut"]
    chosen = [*mutmut["pytest_add_cli_args"], *mutmut["pytest_add_cli_args_test_selection"]]
    plugin = Trial(Path(results), of, float(longest))
    sys.exit(pytest.main(["-q", *chosen], plugins=[plugin]))


if __name__ == "__main__":
    main()
