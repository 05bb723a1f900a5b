"""The house keeps its rules: imports point one way, and the face is what it says."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import turnwise

SOURCE = Path(turnwise.__file__).parent
PURE = {
    "atomic_service": set[str](),
    "durations": set[str](),
    "old_settings": {"durations", "old_review"},
    "old_review": {"durations", "old_settings"},
    "membership": {"atomic_service", "durations", "old_settings"},
    "timetable": {"atomic_service", "membership", "old_settings"},
}
BACKENDS = {f"backends.{path.stem}" for path in (SOURCE / "backends").glob("[!_]*.py")}
ON_TOP = ("cli", "simulation", "chart", "testing")


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_of(path): path for path in SOURCE.rglob("*.py")}


def imports(module: str) -> set[str]:
    """What a module imports, wherever in it: ours without the leading name, others whole."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
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
    return imports(module) & set(MODULES)


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_the_standard_library_and_its_named_neighbours_alone(
    module: str,
) -> None:
    assert ours(module) <= PURE[module]
    others = {name.partition(".")[0] for name in imports(module) - set(MODULES)}
    assert others <= sys.stdlib_module_names


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_reads_no_clock_and_no_randomness_but_the_run_id(module: str) -> None:
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(MODULES[module].read_text()))
        if isinstance(node, ast.Call)
    }
    forbidden = {"datetime.now", "datetime.utcnow", "time.time", "time.monotonic", "open", "print"}
    assert not calls & forbidden
    assert not imports(module) & {"time", "random", "secrets", "os", "socket", "logging"}
    assert ("uuid" in imports(module)) == (module == "atomic_service")


def test_the_runner_knows_the_protocol_and_no_backend() -> None:
    for module in ("runner", "old_turn", "pace"):
        assert not ours(module) & BACKENDS


def test_a_backend_knows_no_runner_and_no_other_backend() -> None:
    for module in BACKENDS:
        assert not ours(module) & ({"runner", "old_turn", "pace"} | BACKENDS)


def test_nothing_below_imports_the_layers_on_top() -> None:
    for module in MODULES:
        if not module.startswith(ON_TOP):
            assert not any(name.startswith(ON_TOP) for name in ours(module)), module


def test_importing_turnwise_loads_nothing_outside_the_standard_library() -> None:
    code = "import sys, turnwise; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r}); {code}",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) <= {*sys.stdlib_module_names, "turnwise", "__main__"}


def test_the_face_hands_on_a_sorted_list_of_names_that_all_exist() -> None:
    assert sorted(turnwise.__all__) == turnwise.__all__
    assert len(set(turnwise.__all__)) == len(turnwise.__all__)
    for name in turnwise.__all__:
        assert getattr(turnwise, name).__doc__, name


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
