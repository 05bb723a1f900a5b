"""The house keeps its rules: arrows point one way, and the face is what it says."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import turnwise

SOURCE = Path(turnwise.__file__).parent

# A room imports only rooms above it. Pure: no clock, no thread, no I/O; ``now`` is an argument.
PURE = (
    "errors",
    "names",
    "atomic_service",
    "durations",
    "schedules",
    "cycles",
    "settings",
    "review",
    "gate",
    "plan",
    "texts",
    "looks",
    "events",
    "spans",
    "audit",
    "picture",
)
HOUSE = (
    *PURE,
    "own_process",
    "storages",
    "actions",
    "machine",
    "heartbeat",
    "drive",
    "turn",
    "observers",
    "scheduler",
    "controls",
    "overview",
    "simulation",
    "testing",
    "conformance",
    "chart",
    "web",
    "contrib",
    "cli",
)
ONLY_FOR_CLI = {"conformance", "contrib", "simulation", "chart", "testing", "web"}
"""What nothing but the command line imports."""


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(path): path for path in SOURCE.rglob("*.py")}
INSIDE = sorted(set(MODULES) - {""})


def room_of(module: str) -> str:
    return module.partition(".")[0]


def imports(module: str) -> set[str]:
    """What a module imports, wherever in it, for its types too: ours without the leading name."""
    tree = ast.parse(MODULES[module].read_text())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports by a relative name"
            base = str(node.module)
            found.update(
                name
                if (name := f"{base}.{alias.name}").removeprefix("turnwise.") in MODULES
                else base
                for alias in node.names
            )
    return {name.removeprefix("turnwise.") for name in found}


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if name in MODULES}


def test_every_room_is_named_here_and_every_name_is_a_room() -> None:
    assert {room_of(module) for module in INSIDE} == set(HOUSE)


@pytest.mark.parametrize("module", INSIDE)
def test_a_module_imports_its_own_room_and_rooms_above_it_alone(module: str) -> None:
    place = HOUSE.index(room_of(module))
    for name in ours(module):
        assert room_of(name) in HOUSE[: place + 1], f"{module} imports {name or 'the face'}"


def test_no_module_imports_itself_in_a_circle_not_even_for_its_types() -> None:
    """Neither between rooms nor within one."""
    graph = {module: ours(module) for module in INSIDE}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", INSIDE)
def test_nothing_but_the_command_line_imports_what_is_not_for_a_running_program(
    module: str,
) -> None:
    apart = ONLY_FOR_CLI - {room_of(module)}
    if room_of(module) != "cli":
        assert not {room_of(name) for name in ours(module)} & apart


@pytest.mark.parametrize("module", PURE)
def test_a_pure_room_imports_the_standard_library_and_pure_rooms_alone(module: str) -> None:
    assert {room_of(name) for name in ours(module)} <= set(PURE)
    others = {name.partition(".")[0] for name in imports(module) if name not in MODULES}
    # Cron asks for its library when it is made.
    assert others - sys.stdlib_module_names <= ({"cronsim"} if module == "schedules" else set())


WITHOUT_CLOCK = {*PURE, "machine", "heartbeat", "actions"} - {"names"}
RULES_OF_THE_SCHEDULER = {"scheduler.leaving", "scheduler.link", "scheduler.starting"}


@pytest.mark.parametrize(
    "module",
    [name for name in INSIDE if room_of(name) in WITHOUT_CLOCK or name in RULES_OF_THE_SCHEDULER],
)
def test_a_pure_room_reads_no_clock_and_no_randomness_but_the_run_id(module: str) -> None:
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Call)
    }
    forbidden = {"datetime.now", "datetime.utcnow", "time.time", "time.monotonic", "open", "print"}
    assert not calls & forbidden
    apart = {"time", "random", "secrets", "socket", "logging", "threading", "asyncio"}
    assert not imports(module) & apart
    drawn = {"uuid4", "urandom"} & {name.rpartition(".")[2] for name in calls}
    assert bool(drawn) == (module == "atomic_service")


def test_the_whole_face_brings_the_standard_library_alone_and_no_asyncio() -> None:
    program = (
        "import sys; before = set(sys.modules); import turnwise; from turnwise import *; "
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    brought = set(done.stdout.split())
    assert brought - sys.stdlib_module_names == {"turnwise"}
    assert "asyncio" not in brought


def test_the_face_alone_loads_no_room() -> None:
    program = "import sys, turnwise; print(*(name for name in sys.modules if 'turnwise.' in name))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split() == []


def test_the_face_is_sorted_and_shows_what_it_says() -> None:
    assert list(turnwise.__all__) == sorted(turnwise.__all__)
    for name in turnwise.__all__:
        assert getattr(turnwise, name) is not None
        assert name in dir(turnwise)
    with pytest.raises(AttributeError, match="'turnwise' has no attribute 'Runner'"):
        turnwise.Runner  # type: ignore[attr-defined]  # noqa: B018 (asking for it is the point)


def test_the_face_is_what_the_documentation_lists() -> None:
    page = Path(__file__).parents[1] / "docs" / "api.md"
    _, _, rest = page.read_text(encoding="utf-8").partition("## The face\n")
    section, _, _ = rest.partition("\n## ")
    listed = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}
    assert listed == set(turnwise.__all__)


def test_every_public_name_of_every_module_has_a_docstring() -> None:
    def check(scope: ast.Module | ast.ClassDef, name: str) -> None:
        assert ast.get_docstring(scope), name
        for node in scope.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                check(node, f"{name}.{node.name}")
            if isinstance(node, ast.FunctionDef) and not node.name.startswith(("_", "test_")):
                assert ast.get_docstring(node), f"{name}.{node.name}"

    for module, path in MODULES.items():
        check(ast.parse(path.read_text()), module)


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "py.typed").exists()
