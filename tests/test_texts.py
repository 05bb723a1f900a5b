"""Records as text: what is written is read back, and what nobody wrote is a ValueError."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import FIVE, RULES, ask_for, cycle_plan, opened, run_of
from turnwise import gate as gates
from turnwise import texts
from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.gate import (
    Command,
    CommandName,
    Execution,
    Gate,
    Pause,
    Row,
    Run,
    Success,
    Trigger,
)
from turnwise.plan import CyclePlan, Plan, PlanRules

NOON = 1_790_000_000_000_000
numbers = st.integers(-(2**53) + 1, 2**53 - 1)
# Two halves of a character, one after the other, are one character when they are read.
names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.just("\udcff")

PIECES: dict[object, st.SearchStrategy[Any]] = {
    int: numbers,
    float: st.floats(0, 1, exclude_min=True),
    bool: st.booleans(),
    str: names,
    Status: st.sampled_from(Status),
    CommandName: st.sampled_from(CommandName),
    int | None: st.none() | numbers,
    str | None: st.none() | names,
}


def records(of: type, **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Any value of a dataclass whose fields are as declared, but for what is given."""
    hints = get_type_hints(of)
    return st.builds(of, **{n: given[n] if n in given else PIECES[h] for n, h in hints.items()})


rows: st.SearchStrategy[Row] = records(Execution) | records(Command)
gate_records: st.SearchStrategy[Gate] = records(
    Gate,
    open=st.none() | records(Run),
    served=st.lists(numbers, max_size=4).map(tuple),
    attempts=st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple),
    success=st.none() | records(Success),
    pause=st.none() | records(Pause),
    trigger=st.none() | records(Trigger),
    unsaid=st.lists(rows, max_size=2).map(tuple),
)


@st.composite
def plan_records(draw: st.DrawFn) -> Plan:
    edges = sorted(draw(st.sets(numbers, min_size=4, max_size=4)))
    touching = draw(st.booleans())
    spans = [(edges[0], edges[1]), (edges[1] if touching else edges[2], edges[3])]
    counted = st.integers(0, 2**53 - 1)
    cycles = [
        draw(
            records(
                CyclePlan,
                start=st.just(start),
                end=st.just(end),
                due=st.just(edges[0]),
                until=st.just(edges[3]),
                rules=records(PlanRules, margin=counted, stabilization=counted),
                runners=st.lists(st.tuples(names, numbers), min_size=1, max_size=3).map(tuple),
            )
        )
        for start, end in spans[: draw(st.integers(1, 2))]
    ]
    return Plan(tuple(cycles))


@pytest.fixture(autouse=True)
def _nothing_was_read_before() -> None:
    texts._shape.cache_clear()
    forget_what_was_written()


def forget_what_was_written() -> None:
    """So that it is read from its text, as another process would."""
    texts._written_here.clear()
    texts.plan_from_text.cache_clear()
    texts.gate_from_text.cache_clear()


# There and back -----------------------------------------------------------------------------


@given(gate_records)
def test_a_gate_is_read_back_as_it_was_written(gate: Gate) -> None:
    text = texts.gate_to_text(gate)
    forget_what_was_written()
    assert text.isascii()
    assert texts.gate_from_text(text) == gate


@given(plan_records())
def test_a_plan_is_read_back_as_it_was_written(plan: Plan) -> None:
    text = texts.plan_to_text(plan)
    forget_what_was_written()
    assert text.isascii()
    assert texts.plan_from_text(text) == plan


@given(rows)
def test_a_row_is_read_back_as_it_was_written(row: Row) -> None:
    text = texts.row_to_text(row)
    assert text.isascii()
    again = texts.row_from_text(text)
    assert again == row
    assert type(again) is type(row)


def test_words_are_read_back_as_the_enumerations_that_they_were() -> None:
    gate = gates.pause(gates.new_gate(NOON), id="p", now=NOON, by="ops", reason="")
    gate = gates.resume(gate, id="r", now=NOON, by="ops", reason="")
    gate = opened(gate, NOON + 1, now=NOON + 1)
    closed = gates.complete(gate, "run", now=NOON + 2)
    assert isinstance(closed, Gate)
    text = texts.gate_to_text(closed)
    forget_what_was_written()
    paused, _, completed = texts.gate_from_text(text).unsaid
    assert isinstance(paused, Command)
    assert paused.name is CommandName.PAUSE
    assert isinstance(completed, Execution)
    assert completed.status is Status.COMPLETED


# What it looks like -------------------------------------------------------------------------


def test_what_has_its_default_or_is_none_is_left_out() -> None:
    assert texts.gate_to_text(gates.new_gate(7)) == '{"floor":7}'
    pause = Command("p", CommandName.PAUSE, 3, "ops")
    assert texts.row_to_text(pause) == '{"id":"p","name":"pause","at":3,"by":"ops"}'
    gate = replace(gates.new_gate(7), attempts=((8, 1),), pause=Pause(3, "ops", "x"))
    assert json.loads(texts.gate_to_text(gate)) == {
        "floor": 7,
        "attempts": [[8, 1]],
        "pause": {"at": 3, "by": "ops", "reason": "x"},
    }


def test_a_plan_is_a_list_of_cycles_with_their_rules() -> None:
    plan = Plan((cycle_plan(10, 20, "a", "ä"),))
    text = texts.plan_to_text(plan)
    assert r"\u00e4" in text
    assert json.loads(text) == [
        {
            "start": 10,
            "end": 20,
            "number": 0,
            "due": 10,
            "until": 20,
            "rules": {
                "margin": 20_000_000,
                "window": 0.5,
                "standbys": 2,
                "attempts": 3,
                "every_slot": False,
                "stabilization": 0,
            },
            "runners": [["a", 0], ["ä", 0]],
            "size": 2,
            "digest": 7,
            "periods": 11,
            "settings": "0123456789ab",
        }
    ]


def test_a_row_that_was_blocked_has_neither_an_end_nor_a_token_nor_a_slot() -> None:
    text = json.dumps(
        {
            "id": "b",
            "runner_id": "alice",
            "status": "blocked",
            "reason": "late_start",
            "started_at": 5,
            "due": 1,
            "cycle_start": 1,
            "attempt": 1,
            "size": 3,
            "digest": 9,
        }
    )
    row = texts.row_from_text(text)
    assert isinstance(row, Execution)
    assert row.status is Status.BLOCKED
    assert (row.ended_at, row.token, row.slot_start, row.slot_end, row.position, row.trigger) == (
        (None,) * 6
    )


def test_the_record_of_a_service_stays_small() -> None:
    """64 that were served, 8 that failed, and a run that is open: what travels in each swap."""
    gate = gates.new_gate(NOON - 1)
    for number in range(100):
        key = NOON + number * FIVE
        for reason in ("boom", ""):
            status = Status.ABANDONED if reason else Status.COMPLETED
            if reason or number < 92:
                gate = opened(gate, key, now=key)
                closed = gates.finish(gate, "run", now=key, status=status, reason=reason)
                assert isinstance(closed, Gate)
                gate = gates.without(closed, frozenset({"run"}))
    gate = opened(gate, NOON + 100 * FIVE, now=NOON + 100 * FIVE)
    assert (len(gate.served), len(gate.attempts)) == (64, 8)
    assert len(texts.gate_to_text(gate)) < 2_000


def test_the_same_text_is_read_once() -> None:
    gate, plan = texts.gate_to_text(gates.new_gate(7)), texts.plan_to_text(TWENTY)
    forget_what_was_written()
    assert texts.gate_from_text(gate) is texts.gate_from_text(gate)
    assert texts.plan_from_text(plan) is texts.plan_from_text(plan)


def test_what_was_written_here_is_not_read_at_all() -> None:
    gate = gates.new_gate(7)
    assert texts.gate_from_text(texts.gate_to_text(gate)) is gate
    assert texts.plan_from_text(texts.plan_to_text(TWENTY)) is TWENTY


def test_at_most_64_records_that_were_written_are_remembered() -> None:
    gate = gates.new_gate(7)
    text = texts.gate_to_text(gate)
    for floor in range(8, 8 + 200):
        texts.gate_to_text(gates.new_gate(floor))
        assert 0 < len(texts._written_here) <= 64
    assert texts.gate_from_text(text) == gate
    assert texts.gate_from_text(text) is not gate


def test_at_most_256_records_of_a_kind_that_were_read_are_kept() -> None:
    for floor in range(300):
        texts.gate_from_text(texts.gate_to_text(gates.new_gate(floor)))
    assert texts.gate_from_text.cache_info().currsize == 256
    assert texts.plan_from_text.cache_info().maxsize == 256


def test_what_was_written_as_a_plan_is_no_gate() -> None:
    text = texts.plan_to_text(TWENTY)
    with pytest.raises(ValueError, match="no gate"):
        texts.gate_from_text(text)


TWENTY = Plan((cycle_plan(10, 20),))


# What nobody wrote --------------------------------------------------------------------------

Reader = Callable[[str], object]
READERS: dict[str, Reader] = {
    "plan": texts.plan_from_text,
    "gate": texts.gate_from_text,
    "row of a history": texts.row_from_text,
}


def refusal(read: Reader, text: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (what it says is looked at)
        read(text)
    assert type(caught.value) is ValueError
    return str(caught.value)


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize(
    "text", ["", "{", "7", "null", '"x"', "[7]", '[["x"]]', "[null]", "[" * 100_000, "1" * 5_000]
)
def test_a_text_that_is_no_record_is_refused_and_shown(what: str, text: str) -> None:
    said = refusal(READERS[what], text)
    assert said.startswith(f"no {what} in {text[:80]!r}: ")


GATE = json.loads(
    texts.gate_to_text(
        Gate(
            floor=1,
            token=2,
            open=replace(run_of(3), trigger="t"),
            served=(4,),
            attempts=((5, 6),),
            success=Success(7, 8, "s"),
            pause=Pause(9, "by", "why", 10),
            trigger=Trigger("id", 11, "by", "why"),
            unsaid=(
                Command("c", CommandName.PAUSE, 12, "by", "why", 13, "{}"),
                gates.open_row(run_of(14)),
            ),
        )
    )
)
PLAN = json.loads(
    texts.plan_to_text(
        Plan(
            (
                cycle_plan(10, 20, due=5, until=50),
                replace(cycle_plan(20, 30), rules=replace(RULES, start_within=4)),
            )
        )
    )
)


def places(stored: Any) -> list[tuple[Any, Any]]:
    """Each place in a value made of lists and dicts: what holds it, and where."""
    keys = stored.keys() if isinstance(stored, dict) else range(len(stored))
    found = [(stored, key) for key in keys]
    for key in keys:
        if isinstance(stored[key], dict | list):
            found += places(stored[key])
    return found


OTHERS: tuple[Any, ...] = (True, 1.5, "x", [[]], {"a": 1}, 2**53, -(2**53), float("nan"))


@pytest.mark.parametrize(("what", "stored"), [("gate", GATE), ("plan", PLAN)])
def test_a_value_of_another_type_anywhere_is_refused(what: str, stored: Any) -> None:
    for place in range(len(places(stored))):
        for other in OTHERS:
            copied = json.loads(json.dumps(stored))
            holder, key = places(copied)[place]
            is_text = isinstance(holder[key], str) and isinstance(other, str)
            is_flag = isinstance(holder[key], bool) and isinstance(other, bool)
            if is_text or is_flag:
                continue
            holder[key] = other
            assert refusal(READERS[what], json.dumps(copied)).startswith(f"no {what} in ")


@pytest.mark.parametrize(("what", "stored"), [("gate", GATE), ("plan", PLAN)])
def test_none_where_something_must_be_is_refused_and_so_is_a_field_that_nobody_knows(
    what: str, stored: Any
) -> None:
    nullable = {"open", "success", "pause", "trigger", "key", "start_within", "until", "settings"}
    nullable |= {"ended_at", "token", "slot_start", "slot_end", "position"}
    for place in range(len(places(stored))):
        copied = json.loads(json.dumps(stored))
        holder, key = places(copied)[place]
        if key not in nullable:
            holder[key] = None
            refusal(READERS[what], json.dumps(copied))
            if isinstance(holder, dict):
                holder[key], holder["knob_of_tomorrow"] = 1, 1
                refusal(READERS[what], json.dumps(copied))


@pytest.mark.parametrize("missing", ["floor"])
def test_a_gate_needs_its_floor(missing: str) -> None:
    refusal(texts.gate_from_text, json.dumps({k: v for k, v in GATE.items() if k != missing}))


def test_a_row_with_an_unknown_status_or_command_is_refused() -> None:
    said = refusal(texts.row_from_text, '{"id":"p","name":"dance","at":3,"by":"ops"}')
    assert "'dance' is not a valid CommandName" in said
    text = texts.row_to_text(gates.open_row(run_of(5))).replace("running", "dancing")
    assert "'dancing' is not a valid AtomicServiceExecutionStatus" in refusal(
        texts.row_from_text, text
    )


def test_a_number_is_refused_from_2_to_the_53rd_and_named_with_its_field() -> None:
    assert texts.gate_from_text(f'{{"floor":{2**53 - 1}}}').floor == 2**53 - 1
    assert refusal(texts.gate_from_text, f'{{"floor":{2**53}}}').endswith(
        ": floor cannot be 9007199254740992"
    )
    said = refusal(texts.gate_from_text, f'{{"floor":"{"x" * 500}"}}')
    assert said.endswith(": floor cannot be '" + "x" * 79), "a long value is cut"
    said = refusal(texts.gate_from_text, '{"floor":1,"served":["x"]}')
    assert said.endswith(": a number cannot be 'x'")
    said = refusal(texts.gate_from_text, '{"floor":1,"attempts":[["x",1]]}')
    assert said.endswith(": a pair's first cannot be 'x'")
    said = refusal(texts.gate_from_text, '{"floor":1,"attempts":[[1,"x"]]}')
    assert said.endswith(": a pair's second cannot be 'x'")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ([], "it must have one cycle or two, and has 0"),
        ([PLAN[0]] * 3, "it must have one cycle or two, and has 3"),
        ([PLAN[1], PLAN[0]], "its cycles overlap"),
        ([PLAN[0], PLAN[1] | {"start": 19}], "its cycles overlap"),
        ([PLAN[0] | {"end": 10}], "a cycle and its period must start before they end"),
        ([PLAN[0] | {"until": 5}], "a cycle and its period must start before they end"),
        ([PLAN[0] | {"runners": []}], "a cycle must have a runner"),
        ([PLAN[0] | {"rules": PLAN[0]["rules"] | {"window": 0.0}}], "nobody can go by PlanRules("),
        ([PLAN[0] | {"rules": PLAN[0]["rules"] | {"window": 1.1}}], "nobody can go by PlanRules("),
        ([PLAN[0] | {"rules": PLAN[0]["rules"] | {"margin": -1}}], "nobody can go by PlanRules("),
        (
            [PLAN[0] | {"rules": PLAN[0]["rules"] | {"stabilization": -1}}],
            "nobody can go by PlanRules(",
        ),
    ],
)
def test_a_plan_that_nobody_could_go_by_is_refused(changed: object, said: str) -> None:
    assert f": {said}" in refusal(texts.plan_from_text, json.dumps(changed))


@pytest.mark.parametrize("window", [1, 1.0])
def test_a_window_may_be_all_of_a_slot(window: float) -> None:
    rules = PLAN[0]["rules"] | {"window": window}
    read = texts.plan_from_text(json.dumps([PLAN[0] | {"rules": rules}, PLAN[1]]))
    assert read.cycles[0].rules.window == 1


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [f.name for f in (*fields(Gate), *fields(CyclePlan), *fields(Command))]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(anything.map(json.dumps) | st.text(max_size=20), st.sampled_from(list(READERS)))
def test_whatever_the_text_says_it_is_read_or_a_value_error(text: str, what: str) -> None:
    with suppress(ValueError):
        READERS[what](text)


@given(st.sampled_from(["gate", "plan"]), st.data())
def test_a_text_with_something_changed_is_read_or_a_value_error_and_the_rules_can_go_by_it(
    what: str, data: st.DataObject
) -> None:
    copied = json.loads(json.dumps(GATE if what == "gate" else PLAN))
    holder, key = data.draw(st.sampled_from(places(copied)))
    holder[key] = data.draw(anything | st.sampled_from([0, 1, -1, 2**53 - 1, 1 - 2**53]))
    with suppress(ValueError):
        read = READERS[what](json.dumps(copied))
        if isinstance(read, Gate):
            gates.admit(read, ask_for(NOON), now=NOON)
            if read.open is not None:
                gates.complete(read, read.open.run_id, now=NOON)
        elif isinstance(read, Plan):
            for cycle in read.cycles:
                assert cycle.slot(0).start == cycle.start
