"""Pictures: all that happened is in them once, and every file can be read."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Annotation, Text

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.chart import (
    SUFFIXES,
    Picture,
    ShownRun,
    alternative,
    picture_of_history,
    picture_of_plan,
    rendered,
    save,
    summary,
    window_of_interest,
)
from turnwise.chart.drawing import busy_shares, draw, is_crowded, marker_of
from turnwise.cycles import instant, microseconds
from turnwise.gate import Command, CommandName, Execution, Row
from turnwise.plan import CyclePlan, Planner
from turnwise.settings import Settings
from turnwise.simulation import Fault, FaultKind, Fixed, Result, Scenario, simulate
from turnwise.texts import row_from_text

MINUTE = timedelta(minutes=1)
INTERVAL = 5 * MINUTE
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SETTINGS = Settings()
UNUSUAL = ("<script>alert(1)</script>", "mañana", "日本", "a$b$ ^_{x}", "\x07\x00&", "x" * 255, "")
SVG = "{http://www.w3.org/2000/svg}"


def record(
    runner_id: str = "alice",
    at: float = 0,
    minutes: float | None = 1,
    status: Status = Status.COMPLETED,
    reason: str = "",
    *,
    slot: int = 0,
) -> Execution:
    """An execution so many minutes after noon, in a slot of a cycle of three runners."""
    begun = START + at * MINUTE
    cycle = START + (at // 5) * INTERVAL
    start = cycle + slot * INTERVAL / 3
    admitted = status is not Status.BLOCKED
    return Execution(
        id=f"run-{runner_id}-{at}",
        runner_id=runner_id,
        status=status,
        reason=reason,
        started_at=microseconds(begun),
        ended_at=None if minutes is None else microseconds(begun + minutes * MINUTE),
        token=int(at) + 1 if admitted else None,
        due=microseconds(cycle),
        cycle_start=microseconds(cycle),
        slot_start=microseconds(start),
        slot_end=microseconds(start + INTERVAL / 3 - timedelta(seconds=20)),
        position=slot,
        attempt=1,
        size=3,
        digest=3,
    )


def shown(records: Sequence[Row], minutes: float = 10) -> Picture:
    return picture_of_history(records, SETTINGS, START, START + minutes * MINUTE, title="svc")


EVERYTHING = shown(
    [
        record("alice", 0, 1.5, Status.ABANDONED, "owner_dead"),
        record("bob", 1.7, 1, slot=1),
        record("carol", 3.4, 0, Status.BLOCKED, "prior_running:run-7", slot=2),
        record("bob", 9, None, Status.RUNNING, slot=2),
    ]
)


def played(runners: int) -> Result:
    crash = Fault(FaultKind.CRASH, every=timedelta(hours=3), lasts=Fixed(5 * MINUTE))
    return simulate(
        Scenario(runners=runners, faults=(crash,), duration=timedelta(hours=5), seed=runners)
    )


def rows_of(result: Result) -> list[Execution]:
    rows = (row_from_text(entry.body) for entry in result.history)
    return [row for row in rows if isinstance(row, Execution)]


def bars(figure: Figure, height: float) -> list[Rectangle]:
    return [
        patch
        for patch in figure.axes[0].patches
        if isinstance(patch, Rectangle) and patch.get_height() == pytest.approx(height)
    ]


@given(
    st.lists(
        st.builds(
            record,
            st.sampled_from(("alice", "bob", *UNUSUAL)),
            st.floats(-10, 20).map(lambda minutes: round(minutes, 3)),
            st.floats(0, 8),
            st.sampled_from((Status.COMPLETED, Status.ABANDONED, Status.BLOCKED)),
            slot=st.integers(0, 2),
        ),
        unique_by=lambda one: one.id,
    )
)
def test_a_picture_has_each_execution_that_touches_its_time_once_and_a_lane_for_it(
    records: list[Execution],
) -> None:
    picture = shown(records)
    first, last = microseconds(picture.start), microseconds(picture.end)
    inside = [one for one in records if one.started_at < last and (one.ended_at or last) >= first]
    drawn = sorted(
        (microseconds(run.start), run.runner_id) for run in (*picture.runs, *picture.attempts)
    )
    assert drawn == sorted((one.started_at, one.runner_id) for one in inside)
    assert list(picture.lanes) == sorted(picture.lanes), "lanes are sorted by name"
    assert len(set(picture.lanes)) == len(picture.lanes)
    assert set(picture.lanes) == {one.runner_id for one in inside}
    assert {slot.runner_id for slot in picture.slots} <= set(picture.lanes)


@pytest.mark.parametrize("runners", [3, 50])
def test_each_run_is_drawn_as_one_bar_in_its_lane_and_no_name_leaves_the_canvas(
    runners: int,
) -> None:
    rows = rows_of(played(runners))
    begin, end = instant(rows[0].due), instant(rows[-1].due) + INTERVAL
    names = [f"runner-{number}" for number in range(1, runners + 1)]
    picture = picture_of_history(rows, SETTINGS, begin, end, title="svc", runner_ids=names)
    assert len(picture.lanes) >= runners
    figure = draw(picture)
    drawn = bars(figure, 0.36)
    assert len(drawn) == len(picture.runs)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    for bar, run in zip(drawn, picture.runs, strict=True):
        lane = round(bar.get_y() + bar.get_height() / 2)
        assert names[lane] == run.runner_id
    _assert_inside(figure)


def _assert_inside(figure: Figure) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call] # matplotlib's own has no types
    width, height = canvas.get_width_height()
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert -1 <= box.x0 <= box.x1 <= width + 1, text.get_text()
            assert -1 <= box.y0 <= box.y1 <= height + 1, text.get_text()


def test_unusual_names_of_runners_are_drawn_and_stay_inside() -> None:
    picture = shown([record(name, n, 0.5) for n, name in enumerate(UNUSUAL)])
    figure = draw(picture)
    assert len(bars(figure, 0.36)) == len(UNUSUAL)
    _assert_inside(figure)


def test_each_due_instant_has_a_line_whoever_served_it() -> None:
    (axes,) = draw(shown([record("alice", 0), record("alice", 15)], 20)).axes
    assert [line.get_linewidth() for line in axes.get_lines()].count(0.9) == 4


def test_statuses_differ_without_colour() -> None:
    drawn = bars(draw(EVERYTHING), 0.36)
    assert len({bar.get_hatch() or "" for bar in drawn}) == 3


def test_what_happened_is_said_in_words_too() -> None:
    assert summary(EVERYTHING) == (
        "1 abandoned, 1 completed, 1 running, 2 by a standby, 1 blocked, longest gap 7m18s"
    )
    words = alternative(EVERYTHING)
    for said in (
        "12:00:00 alice abandoned, 1m30s, token 1, owner_dead",
        "12:01:42 bob completed, 1m, token 2, as a standby",
        "12:03:24 carol blocked, prior_running:run-7",
        "12:09:00 bob running, open, token 10",
        "12:01:42 nobody starts for 7m18s",
    ):
        assert said in words


def test_a_gap_of_a_cycle_is_usual_and_a_longer_one_is_shown() -> None:
    steady = [record("alice", 5 * n) for n in range(4)]
    assert shown(steady, 20).gaps == ()
    (gap,) = shown([*steady[:1], *steady[2:]], 20).gaps
    assert (gap.start, gap.end) == (START, START + 2 * INTERVAL)


def test_a_window_of_interest_holds_the_longest_gap_or_what_was_cut_off() -> None:
    steady = [record("alice", 5 * n) for n in range(40)]
    assert window_of_interest(steady, SETTINGS)[1] == START + 40 * INTERVAL
    start, end = window_of_interest([*steady[:20], *steady[23:]], SETTINGS)
    assert start < START + 19 * INTERVAL < START + 23 * INTERVAL < end
    steady[10] = record("alice", 50, 1, Status.ABANDONED)
    start, end = window_of_interest(steady, SETTINGS)
    assert start < START + 10 * INTERVAL < end
    alone = [record("alice", 0)]
    start, end = window_of_interest(alone, SETTINGS)
    assert (start, end) == (START, START + INTERVAL), "nothing is known beyond it"
    assert not picture_of_history(alone, SETTINGS, start, end, title="svc").gaps
    with pytest.raises(ValueError, match="executions must be one or more"):
        window_of_interest([], SETTINGS)


def test_a_plan_has_its_slots_and_no_executions() -> None:
    planner = Planner.of("svc", SETTINGS)
    cycle = planner.cycle_at(microseconds(START))
    names = (("alice", 0), ("bob", 0))
    planned = CyclePlan(
        *(cycle.start, cycle.end, 0, cycle.due, cycle.until, planner.rules, names, 3, 0, 0, "")
    )
    picture = picture_of_plan([planned], ("alice", "bob", "carol"), title="a cycle")
    assert (picture.start, picture.end) == (START, START + INTERVAL)
    assert summary(picture) == "3 runners, 2 slots, no executions"
    assert "12:00:00 alice: slot as primary" in alternative(picture)
    figure = draw(picture)
    assert len(bars(figure, 0.72)) == 3 * 2
    _assert_inside(figure)
    said = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert said[:3] == ["0s", "30s", "1m"], "a plan counts from the start of its cycle"
    with pytest.raises(ValueError, match="cycles must be one or more"):
        picture_of_plan((), ("alice",), title="a cycle")


# Many runs, several days, pauses ------------------------------------------------------------------


def many(count: int) -> list[Execution]:
    """A run of a minute every five minutes; each fiftieth fails."""
    return [
        record("alice", 5 * n, 1, Status.ABANDONED if n % 50 == 7 else Status.COMPLETED)
        for n in range(count)
    ]


def test_a_crowded_lane_is_drawn_as_density_with_failures_on_top() -> None:
    few, crowd = shown(many(60), 300), shown(many(600), 3000)
    assert not is_crowded(few)
    assert is_crowded(crowd)
    assert len(bars(draw(few), 0.36)) == 60
    figure = draw(crowd)
    shades = bars(figure, 0.36)
    assert 0 < len(shades) <= 240
    failed = bars(figure, 0.72)
    assert len(failed) == 12
    assert min(bar.get_zorder() for bar in failed) > max(bar.get_zorder() for bar in shades)


@given(st.lists(st.tuples(st.integers(0, 2999), st.integers(1, 30)), max_size=40))
def test_the_density_of_a_lane_adds_up_to_the_time_at_work(spans: list[tuple[int, int]]) -> None:
    free, rows = 0, []
    for at, length in sorted(spans):
        start = max(at, free)
        free = start + length
        rows.append(record("alice", start, length))
    picture = shown(rows, 3000)
    part = (picture.end - picture.start) / 240
    worked = sum(
        (min(run.end or picture.end, picture.end) - run.start for run in picture.runs),
        timedelta(0),
    )
    assert sum(busy_shares(picture, "alice")) * part / MINUTE == pytest.approx(worked / MINUTE)


def test_a_reason_has_one_mark_in_every_picture() -> None:
    marks: dict[str, object] = {}
    for reasons in (["late_start"], ["late_start", "prior_running:1"], ["prior_running:2", "odd"]):
        rows = [record("bob", 2 * n, 0, Status.BLOCKED, reason) for n, reason in enumerate(reasons)]
        figure = draw(shown(rows))
        drawn = [line.get_marker() for line in figure.axes[0].get_lines() if line.get_marker()]
        for reason, mark in zip(reasons, [m for m in drawn if m != "None"], strict=True):
            kind = reason.partition(":")[0]
            assert marks.setdefault(kind, mark) == mark == marker_of(kind)
    assert len(set(marks.values())) == 3


def test_the_label_of_a_gap_does_not_cover_its_arrow() -> None:
    figure = draw(shown([record("alice", 0), record("alice", 25)], 30))
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call] # matplotlib's own has no types
    (axes,) = figure.axes
    (label,) = [text for text in axes.texts if text.get_text().startswith("no start")]
    (arrow,) = [text for text in axes.texts if isinstance(text, Annotation)]
    assert arrow.arrow_patch is not None
    assert label.get_window_extent().y0 > arrow.arrow_patch.get_window_extent().y1


def test_a_gap_too_short_for_its_label_has_an_arrow_alone() -> None:
    (axes,) = draw(shown([record("alice", 0), record("alice", 10)], 400)).axes
    assert not [text for text in axes.texts if text.get_text().startswith("no start for 10m")]


def test_tables_that_cross_midnight_have_dates_and_are_in_the_order_of_time() -> None:
    rows = [record("bob", 60 * n, 1) for n in (13, 1, 25, 7)]
    picture = shown(rows, 60 * 30)
    said = re.findall(r"^([\d-]+ [\d:]+) bob", alternative(picture), re.MULTILINE)
    assert said == sorted(said)
    assert said[0] == "2026-03-01 13:00:00"
    page = rendered(picture, ".html").decode()
    starts = re.findall(r"<tr><td>([^<]+)</td>", page.partition("Times without")[0])
    assert starts == said
    assert all(earlier < later for earlier, later in pairwise(starts))
    one_day = shown(rows[1:2], 120)
    assert "2026-" not in alternative(one_day).splitlines()[2], "one day needs no dates"


@pytest.mark.parametrize(
    ("hours", "label", "tick"),
    [
        (0.05, "UTC, 2026-03-01", "12:00:30"),
        (5, "UTC, 2026-03-01", "13:00"),
        (30, "UTC, 2026-03-01 to 2026-03-02", "Mar 2"),
        (24 * 10, "UTC, 2026-03-01 to 2026-03-11", "Mar 5"),
    ],
)
def test_the_axis_says_what_its_ticks_are(hours: float, label: str, tick: str) -> None:
    figure = draw(shown([record("alice", 0)], 60 * hours))
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call] # matplotlib's own has no types
    (axes,) = figure.axes
    assert axes.get_xlabel() == label
    assert tick in [text.get_text() for text in axes.get_xticklabels()]


def test_a_pause_is_shown_until_it_ends() -> None:
    def told(name: CommandName, at: float, until: float | None = None) -> Command:
        end = None if until is None else microseconds(START + until * MINUTE)
        return Command(f"{name} {at}", name, microseconds(START + at * MINUTE), "ops", until=end)

    rows = [
        told(CommandName.PAUSE, -5),
        told(CommandName.RESUME, 2),
        told(CommandName.PAUSE, 4, 6),
        told(CommandName.PAUSE, 8),
    ]
    pauses = shown(rows).pauses
    minutes = [((a - START) / MINUTE, (b - START) / MINUTE) for a, b in pauses]
    assert minutes == [(0, 2), (4, 6), (8, 10)]
    assert "12:04:00 paused until 12:06:00" in alternative(shown(rows))


def test_a_run_in_a_later_cycle_of_its_period_is_a_standbys() -> None:
    from dataclasses import replace  # noqa: PLC0415 (of this test alone)

    late = replace(record("bob", 10), due=microseconds(START))
    (run,) = shown([late], 20).runs
    assert isinstance(run, ShownRun)
    assert run.as_standby
    assert run.late == 10 * MINUTE


# Files --------------------------------------------------------------------------------------------


def test_an_end_before_the_start_is_refused() -> None:
    with pytest.raises(ValueError, match="end must be after start"):
        shown([record()], -1)


def test_an_svg_is_well_formed_and_has_a_title_and_a_description() -> None:
    picture = shown([record(name, n, 0.5) for n, name in enumerate(UNUSUAL)])
    root = ET.fromstring(rendered(picture, ".svg"))  # noqa: S314 (our own)
    title, description = root.find(f"{SVG}title"), root.find(f"{SVG}desc")
    assert title is not None
    assert title.text == "svc"
    assert description is not None
    assert "<script>alert(1)</script> completed" in str(description.text)


class Page(HTMLParser):
    """The tags of a page, and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.references: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href")]


def test_a_page_loads_nothing_runs_nothing_and_has_a_row_for_each_execution() -> None:
    picture = shown([record(name, n, 0.5) for n, name in enumerate(UNUSUAL)])
    text = rendered(picture, ".html").decode()
    page = Page(text)
    assert "script" not in page.tags
    assert "&lt;script&gt;alert(1)" in text
    assert page.references
    assert all(reference.startswith("#") for reference in page.references)
    assert not re.search(r"url\((?!#)|@import", text)
    assert page.tags.count("tr") == 1 + len(UNUSUAL)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_picture_gives_the_same_bytes(suffix: str) -> None:
    begin = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF", ".html": b"<!doctype html>"}
    content = rendered(EVERYTHING, suffix)
    assert content.startswith(begin.get(suffix, b"svc: "))
    assert content == rendered(EVERYTHING, suffix)


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "turns.svg"
    save(EVERYTHING, path)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            save(shown([record()]), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match=r"suffix must be one of \.svg"):
        save(EVERYTHING, tmp_path / "turns.gif")


@given(st.text(max_size=40))
@settings(max_examples=25)
def test_any_name_of_a_service_makes_a_picture(title: str) -> None:
    picture = picture_of_history([record()], SETTINGS, START, START + MINUTE, title=title)
    ET.fromstring(rendered(picture, ".svg"))  # noqa: S314 (our own)
