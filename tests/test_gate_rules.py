"""The gate's rules against every sequence of requests, and against a machine that tries many.

Both hold the gate against a *witness*, which knows nothing of how a gate works. It writes down what
was admitted and how it ended, and objects where a rule is broken. Rules that are broken on purpose
must be found.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
from hypothesis import Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from records import FIVE, ask_for
from turnwise import gate as gates
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.cycles import MINUTE, SECOND
from turnwise.gate import Gate, NotOpen, Row

HORIZON: Final = 10 * MINUTE
NO_ATTEMPTS: Final = frozenset({"stopped", "not_started", "no_margin"})
WAYS_TO_END: Final = ("completed", "complete", "boom", "stopped", "bury")


@dataclass(slots=True)
class Witness:
    """What was admitted, and how it ended, by all that the gate's answers say.

    ``most`` is how many attempts at a period there may be.
    """

    gate: Gate
    now: int
    most: int = 2
    latest: int = 0
    open: tuple[str, int | None] | None = None
    served: frozenset[int] = frozenset()
    attempts: dict[int, int] = field(default_factory=dict)
    closed: frozenset[str] = frozenset()
    commands: tuple[str, ...] = ()
    history: tuple[Row, ...] = ()
    token: int = 0

    def __post_init__(self) -> None:
        self.latest = max(self.latest, self.now)

    def copy(self) -> "Witness":
        return replace(self, attempts=dict(self.attempts))

    def fresh(self, of: str) -> str:
        return f"{of}{len(self.closed) + len(self.commands) + self.token}"

    def admit(self, key: int | None, length: int) -> None:
        run_id = self.fresh("run")
        due = self.now if key is None else key
        ask = ask_for(key, run_id, due=due, length=length, attempts=self.most)
        paused = self.gate.pause is not None and gates.is_paused(self.gate, self.now)
        waiting = self.gate.trigger
        answer = gates.admit(self.gate, ask, now=self.now)
        if not isinstance(answer, Gate):
            return
        assert self.open is None, "two runs are open"
        assert not paused, "a run starts while the service is paused"
        assert key not in self.served, "a period is served twice"
        run = answer.open
        assert run is not None
        if key is None:
            assert waiting is not None, "a run without a period and without a trigger"
            assert answer.trigger is None
            assert run.trigger == waiting.id
        else:
            self.attempts.setdefault(key, 0)
            assert self.attempts[key] < self.most, "more attempts than are allowed"
            assert run.attempt == self.attempts[key] + 1
        assert run.run_id == run_id
        assert run.token == answer.token > self.token, "tokens grow"
        self.gate, self.open, self.token = answer, (run_id, key), run.token

    def end(self, run_id: str, way: str) -> None:
        answer = self._ended(run_id, way)
        if self.open is None or self.open[0] != run_id:
            assert isinstance(answer, NotOpen), "a run is closed that was not open"
            return
        assert isinstance(answer, Gate), "a run is open, and cannot be closed"
        assert answer.open is None
        key = self.open[1]
        again = key is None and way in NO_ATTEMPTS
        assert (answer.trigger is not None) == (again or self.gate.trigger is not None)
        self.gate, self.open = answer, None
        self.closed |= {run_id}
        if key is None or way in NO_ATTEMPTS:
            return
        if way in {"completed", "complete"}:
            self.served |= {key}
        else:
            self.attempts[key] += 1

    def _ended(self, run_id: str, way: str) -> Gate | NotOpen:
        match way:
            case "completed":
                status, reason = Status.COMPLETED, ""
            case "complete":
                return gates.complete(self.gate, run_id, now=self.now)
            case "bury":
                return gates.bury(self.gate, run_id, now=self.now)
            case _:
                status, reason = Status.ABANDONED, way
        return gates.finish(self.gate, run_id, now=self.now, status=status, reason=reason)

    def pause(self, until: int | None) -> None:
        name = self.fresh("pause")
        self.gate = gates.pause(self.gate, id=name, now=self.now, by="", reason="", until=until)
        self.commands += (name,)

    def resume(self) -> None:
        name = self.fresh("resume")
        before, self.gate = (
            self.gate,
            gates.resume(self.gate, id=name, now=self.now, by="", reason=""),
        )
        assert self.gate.pause is None
        self.commands += (name,) if before.pause is not None else ()

    def trigger(self) -> None:
        name = self.fresh("trigger")
        before, self.gate = (
            self.gate,
            gates.trigger(self.gate, id=name, now=self.now, by="", reason=""),
        )
        assert self.gate.trigger is not None
        self.commands += (name,) if before.trigger is None else ()

    def tell(self) -> None:
        """Somebody comes by, and appends what the history does not know yet."""
        self.history += self.gate.unsaid
        self.gate = gates.without(self.gate, frozenset(row.id for row in self.gate.unsaid))
        assert self.gate.unsaid == ()

    def step(self, to: int) -> None:
        """Move the storage's clock: ahead as far as it likes, back within the horizon."""
        self.now = max(to, self.latest - HORIZON)
        self.latest = max(self.latest, self.now)

    def look(self) -> None:
        """What must hold at any time."""
        told = [row.id for row in (*self.history, *self.gate.unsaid)]
        assert sorted(told) == sorted([*self.closed, *self.commands]), "each end is told once"
        run = self.gate.open
        assert (run and (run.run_id, run.key)) == self.open
        assert self.gate.token == self.token
        assert list(self.gate.served) == sorted(set(self.gate.served))
        assert len(self.gate.served) <= gates.KEPT_KEYS
        assert len(self.gate.attempts) <= gates.KEPT_COUNTS
        for key in self.served:
            assert gates.is_served(self.gate, key, now=self.now, ahead=HORIZON)


# Every sequence -----------------------------------------------------------------------------


def moves(witness: Witness) -> list[Callable[[Witness], None]]:
    """All that can happen next: three periods, and a clock that steps by a period."""
    known = [*witness.closed, "nobody", *([witness.open[0]] if witness.open else [])]
    keys = [key for key in (FIVE, 2 * FIVE, 3 * FIVE) if key <= witness.now]
    found: list[Callable[[Witness], None]] = [
        Witness.resume,
        Witness.trigger,
        lambda w: w.pause(None),
        lambda w: w.pause(w.now + FIVE),
        lambda w: w.admit(None, FIVE),
        lambda w: w.step(w.now + FIVE),
        lambda w: w.step(w.now - FIVE),
        lambda w: w.step(w.now - 2 * FIVE),
    ]
    found += [lambda w, key=key: w.admit(key, FIVE) for key in keys]  # type: ignore[misc]
    for name in known[-2:]:
        ways = WAYS_TO_END if witness.open and name == witness.open[0] else ("completed",)
        found += [lambda w, name=name, way=way: w.end(name, way) for way in ways]  # type: ignore[misc]
    return found


def essence(witness: Witness) -> object:
    """What matters of a state for what comes next: not how its runs and commands are called."""
    gate, run = witness.gate, witness.open
    pause, trigger = gate.pause, gate.trigger
    return (
        witness.now,
        witness.latest,
        run and run[1],
        run is None,
        frozenset(witness.served),
        tuple(sorted(witness.attempts.items())),
        gate.floor,
        gate.served,
        gate.attempts,
        pause and (pause.until,),
        trigger is None,
    )


def enumerate_sequences(depth: int) -> int:
    """Try every sequence of ``depth`` moves; answer how many states there are."""
    first = Witness(gates.new_gate(0), FIVE)
    seen, layer = {essence(first)}, [first]
    for _ in range(depth):
        following = []
        for witness in layer:
            for move in moves(witness):
                after = witness.copy()
                move(after)
                after.look()
                after.tell()
                if (state := essence(after)) not in seen:
                    seen.add(state)
                    following.append(after)
        layer = following
    return len(seen)


def few_are_kept(monkeypatch: pytest.MonkeyPatch, keys: int, counts: int) -> None:
    monkeypatch.setattr(gates, "KEPT_KEYS", keys)
    monkeypatch.setattr(gates, "KEPT_COUNTS", counts)


@pytest.mark.parametrize(("keys", "counts"), [(1, 1), (2, 1), (64, 8)])
def test_no_sequence_of_requests_breaks_a_rule(
    monkeypatch: pytest.MonkeyPatch, keys: int, counts: int
) -> None:
    few_are_kept(monkeypatch, keys, counts)
    states = enumerate_sequences(8)
    print(f"{states:,} states with {keys} keys and {counts} counts kept")  # noqa: T201
    assert states > 6_000


# Broken rules -------------------------------------------------------------------------------

Rules = dict[str, Any]
SHIPPED: Final[Rules] = {name: rule for name, rule in vars(gates).items() if callable(rule)}


def _admits_beside_another(gate: Gate, ask: gates.Ask, *, now: int) -> Any:
    return SHIPPED["admit"](replace(gate, open=None), ask, now=now)


def _starts_while_paused(gate: Gate, ask: gates.Ask, *, now: int) -> Any:
    return SHIPPED["admit"](replace(gate, pause=None), ask, now=now)


def _closes_anybodys(gate: Gate, run_id: str, **how: Any) -> Any:
    return SHIPPED["finish"](gate, gate.open.run_id if gate.open else run_id, **how)


def _says_nothing(gate: Gate, run_id: str, **how: Any) -> Any:
    closed = SHIPPED["finish"](gate, run_id, **how)
    return replace(closed, unsaid=()) if isinstance(closed, Gate) else closed


def _triggers_again(gate: Gate, run_id: str, **how: Any) -> Any:
    closed = SHIPPED["finish"](gate, run_id, **how)
    again = gates.Trigger("again", 0, "", "")
    return replace(closed, trigger=again) if isinstance(closed, Gate) else closed


def _keeps_it_open(gate: Gate, run_id: str, **how: Any) -> Any:
    closed = SHIPPED["finish"](gate, run_id, **how)
    return replace(closed, open=gate.open) if isinstance(closed, Gate) else closed


def _same_token(gate: Gate, run: gates.Run, now: int) -> Gate:
    opened: Gate = SHIPPED["_opened"](gate, run, now)
    return replace(opened, token=1, open=replace(run, token=1))


def _no_horizon(gate: Gate, key: int, limit: int) -> Gate:
    shipped: Gate = SHIPPED["_within_horizon"](gate, key, limit - HORIZON)
    return shipped


BROKEN: Final[dict[str, Rules]] = {
    "admits beside another": {"admit": _admits_beside_another},
    "starts while paused": {"admit": _starts_while_paused},
    "closes anybody's run": {"finish": _closes_anybodys},
    "says nothing of an end": {"finish": _says_nothing},
    "leaves a closed run open": {"finish": _keeps_it_open},
    "gives one token twice": {"_opened": _same_token},
    "serves again": {"is_served": lambda *_, **__: False},
    "forgets what was served": {"_with_served": lambda gate, _: gate},
    "forgets attempts": {"_with_attempt": lambda gate, _: gate},
    "has no floor": {"_with_floor": lambda gate, _: gate},
    "drops what lies ahead": {"_within_horizon": _no_horizon},
    "counts a stopped run": {"NO_ATTEMPT": frozenset()},
    "triggers again and again": {"finish": _triggers_again},
    "forgets its trigger": {"_triggered_again": lambda gate, *_: gate},
}


def test_each_broken_rule_is_found_by_the_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    few_are_kept(monkeypatch, 1, 1)
    for name, rules in BROKEN.items():
        with monkeypatch.context() as broken:
            for rule_name, other in rules.items():
                broken.setattr(gates, rule_name, other)
            try:
                enumerate_sequences(6)
            except AssertionError:
                continue
        pytest.fail(f"a gate that {name} was not found")


# Many keys, two schedules, a clock to the microsecond ---------------------------------------

DAY: Final = 24 * 60 * MINUTE
MIDNIGHT: Final = 20_000 * DAY
LENGTHS: Final = (SECOND, MINUTE, DAY)


class Requests(RuleBasedStateMachine):
    """Services of a second, a minute and a day under one name, and a storage's clock that steps."""

    lengths = st.sampled_from(LENGTHS)

    def __init__(self) -> None:
        super().__init__()
        self.witness = Witness(gates.new_gate(MIDNIGHT - 1), MIDNIGHT)

    @initialize(before=st.integers(0, 90 * SECOND), most=st.integers(1, 3))
    def begin(self, before: int, most: int) -> None:
        now = MIDNIGHT - before
        self.witness = Witness(gates.new_gate(now - 1), now, most=most)

    @rule(length=lengths, back=st.integers(0, 3))
    def admit(self, length: int, back: int) -> None:
        """Ask for the period of now, or for an earlier one that somebody is late with."""
        now = self.witness.now
        self.witness.admit(now - now % length - back * length, length)

    @rule()
    def admit_the_trigger(self) -> None:
        self.witness.admit(None, SECOND)

    @rule(way=st.sampled_from([*WAYS_TO_END, "no_margin", "timeout"]))
    def end(self, way: str) -> None:
        if self.witness.open:
            self.witness.end(self.witness.open[0], way)

    @rule(way=st.sampled_from(WAYS_TO_END), data=st.data())
    def end_again(self, way: str, data: st.DataObject) -> None:
        names = [*sorted(self.witness.closed), "nobody"]
        self.witness.end(data.draw(st.sampled_from(names)), way)

    @rule(
        length=lengths, count=st.integers(1, 70), way=st.sampled_from(["complete", "boom", "bury"])
    )
    def go_through_periods(self, length: int, count: int, way: str) -> None:
        """Period after period is served, or fails, as they come."""
        witness = self.witness
        if witness.open:
            witness.end(witness.open[0], way)
        for _ in range(count):
            key = witness.now - witness.now % length
            for _ in range(1 if way == "complete" else witness.most + 1):
                witness.admit(key, length)
                if witness.open:
                    witness.end(witness.open[0], way)
            witness.step(key + length)
            witness.tell()  # a gate that nobody tells for loses the oldest rows

    @rule(by=st.one_of(st.integers(0, 3 * MINUTE), st.integers(0, 3 * DAY)))
    def step_ahead(self, by: int) -> None:
        self.witness.step(self.witness.now + by)

    @rule(by=st.one_of(st.integers(0, MINUTE), st.integers(0, HORIZON), st.just(HORIZON)))
    def step_back(self, by: int) -> None:
        self.witness.step(self.witness.now - by)

    @rule(length=st.none() | st.integers(-5, 3 * MINUTE))
    def pause(self, length: int | None) -> None:
        self.witness.pause(None if length is None else self.witness.now + length)

    @rule()
    def resume(self) -> None:
        self.witness.resume()

    @rule()
    def trigger(self) -> None:
        self.witness.trigger()

    @rule()
    def tell(self) -> None:
        self.witness.tell()

    @invariant()
    def holds(self) -> None:
        self.witness.look()


def test_whatever_is_asked_for_and_however_the_clock_steps_no_rule_is_broken() -> None:
    examples = (settings.default or settings()).max_examples // 2
    run_state_machine_as_test(
        Requests, settings=settings(max_examples=examples, stateful_step_count=50)
    )


@pytest.mark.parametrize("name", ["has no floor", "drops what lies ahead", "forgets attempts"])
def test_a_broken_rule_is_found_by_the_machine(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for rule_name, other in BROKEN[name].items():
        monkeypatch.setattr(gates, rule_name, other)
    once = settings(
        max_examples=5000,
        stateful_step_count=50,
        phases=[Phase.generate],  # found is enough
        report_multiple_bugs=False,
        database=None,
    )
    tried = seed(0)(type("Tried", (Requests,), {}))  # which has not to try thousands
    with pytest.raises(AssertionError):
        run_state_machine_as_test(tried, settings=once)
