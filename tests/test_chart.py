"""Pictures: all that happened is in them once, and every file can be read."""

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from turnwise.atomic_service import AtomicServiceExecutionStatus as Status
from turnwise.backends import ExecutionRecord
from turnwise.chart import (
    SUFFIXES,
    Picture,
    alternative,
    picture_of_history,
    picture_of_plan,
    rendered,
    save,
    summary,
    window_of_interest,
)
from turnwise.chart.drawing import draw
from turnwise.old_settings import Settings
from turnwise.simulation import Fault, FaultKind, Fixed, Result, Scenario, simulate
from turnwise.testing import START
from turnwise.timetable import lay_out

MINUTE = timedelta(minutes=1)
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
) -> ExecutionRecord:
    """An execution so many minutes after noon, in a slot of a cycle of three runners."""
    begun = START + at * MINUTE
    cycle = START + (at // 5) * SETTINGS.interval
    start = cycle + slot * SETTINGS.interval / 3
    admitted = status is not Status.BLOCKED
    return ExecutionRecord(
        service="svc",
        run_id=f"run-{runner_id}-{at}",
        runner_id=runner_id,
        status=status,
        reason=reason,
        start_time=begun,
        end_time=None if minutes is None else begun + minutes * MINUTE,
        fencing_token=int(at) + 1 if admitted else None,
        cycle_start=cycle,
        slot_start=start,
        slot_end=start + SETTINGS.interval / 3,
        last_heartbeat=begun,
        stable_size=3,
        stable_digest="3",
    )


def shown(records: Sequence[ExecutionRecord], minutes: float = 10) -> Picture:
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
        Scenario(
            settings=replace(SETTINGS, retention_age=timedelta(hours=6)),
            runners=runners,
            faults=(crash,),
            duration=timedelta(hours=5),
            seed=runners,
        )
    )


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
        unique_by=lambda one: one.run_id,
    )
)
def test_a_picture_has_each_execution_that_touches_its_time_once_and_a_lane_for_it(
    records: list[ExecutionRecord],
) -> None:
    picture = shown(records)
    inside = [
        one
        for one in records
        if one.start_time < picture.end and (one.end_time or picture.end) >= picture.start
    ]
    assert sorted((*picture.runs, *picture.attempts), key=id) == sorted(inside, key=id)
    assert len(set(picture.lanes)) == len(picture.lanes)
    assert set(picture.lanes) == {one.runner_id for one in inside}
    assert {slot.runner_id for slot in picture.slots} <= set(picture.lanes)


@pytest.mark.parametrize("runners", [3, 50])
def test_each_run_is_drawn_as_one_bar_in_its_lane_and_no_name_leaves_the_canvas(
    runners: int,
) -> None:
    result = played(runners)
    records = result.history
    begin = records[0].cycle_start
    picture = picture_of_history(
        records, SETTINGS, begin, records[-1].cycle_start + SETTINGS.interval, title="svc"
    )
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


def test_each_cycle_has_a_line_at_its_start_whoever_ran_in_it() -> None:
    (axes,) = draw(shown([record("alice", 0), record("alice", 15)], 20)).axes
    assert [line.get_linewidth() for line in axes.get_lines()].count(0.9) == 5


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
    assert (gap.start, gap.end) == (steady[0].start_time, steady[2].start_time)


def test_a_window_of_interest_holds_the_longest_gap_or_what_was_cut_off() -> None:
    steady = [record("alice", 5 * n) for n in range(40)]
    assert window_of_interest(steady, SETTINGS)[1] == steady[-1].cycle_start + SETTINGS.interval
    start, end = window_of_interest([*steady[:20], *steady[23:]], SETTINGS)
    assert start < steady[19].start_time < steady[23].start_time < end
    steady[10] = record("alice", 50, 1, Status.ABANDONED)
    start, end = window_of_interest(steady, SETTINGS)
    assert start < steady[10].start_time < end
    alone = [record("alice", 0)]
    start, end = window_of_interest(alone, SETTINGS)
    assert (start, end) == (START, START + SETTINGS.interval), "nothing is known beyond it"
    assert not picture_of_history(alone, SETTINGS, start, end, title="svc").gaps
    with pytest.raises(ValueError, match="executions must be one or more"):
        window_of_interest([], SETTINGS)


def test_a_plan_has_its_slots_and_no_executions() -> None:
    slots = lay_out(["alice", "bob"], START, SETTINGS)
    picture = picture_of_plan(slots, ("alice", "bob", "carol"), SETTINGS, title="a cycle")
    assert (picture.start, picture.end) == (START, START + SETTINGS.interval)
    assert summary(picture) == "3 runners, 2 slots, no executions"
    assert "12:00:00 alice: slot as primary" in alternative(picture)
    assert len(bars(draw(picture), 0.72)) == 3 * len(slots)
    with pytest.raises(ValueError, match="slots must be one or more"):
        picture_of_plan((), ("alice",), SETTINGS, title="a cycle")


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
