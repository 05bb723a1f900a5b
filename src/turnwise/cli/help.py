"""How help looks: plain text, options under headings, and commands that load when they are called.

Plain text, because it is there at once, reads the same in a pipe and on a terminal, and does not
depend on the version of typer.
"""

import functools
import gc
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

CONTEXT: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"]}
"""What the context of every command has: ``-h`` beside ``--help``."""

_LONGEST_OPTION: Final = 30


class Command(TyperCommand):
    """A command whose help has its options under headings."""

    def invoke(self, ctx: Any) -> Any:
        """Call the command, for which garbage is collected: see :func:`turnwise.cli.main`."""
        gc.enable()
        return super().invoke(ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What the usage line says behind the command's name."""
        del ctx
        arguments = [each.metavar for each in self.params if _is_argument(each)]
        return [piece for piece in (self.options_metavar, *arguments) if piece]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the options without a heading, and then the others."""
        headings: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        parameters: list[Any] = list(self.get_params(ctx))
        for parameter in parameters:
            record = (
                (parameter.metavar, parameter.help)
                if _is_argument(parameter)
                else parameter.get_help_record(ctx)
            )
            if record is not None:
                headings.setdefault(_heading(parameter), []).append(record)
        for heading, records in headings.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records, col_max=_LONGEST_OPTION)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples as they are, without filling their lines."""
        del ctx
        if self.epilog:
            with formatter.section("Examples"):
                for line in self.epilog.splitlines():
                    formatter.write(f"  {line}".rstrip() + "\n")


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _heading(parameter: Any) -> str:
    first = "Arguments" if _is_argument(parameter) else "Options"
    return getattr(parameter, "rich_help_panel", None) or first


@dataclass(frozen=True, slots=True)
class Entry:
    """A command that is loaded when it is called.

    The module of its name in :mod:`turnwise.cli`, or ``module`` there, has a function of its name,
    and may have ``EXAMPLES``: a text for each of its commands. ``short`` is its line in the list of
    commands, under ``heading``.
    """

    heading: str
    short: str
    module: str | None = None
    takes_command: bool = False


class Commands(TyperGroup):
    """All commands, of which the modules are imported when a command is called, not before."""

    entries: Mapping[str, Entry] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in self.entries.items():
            self.commands[name] = Command(name, short_help=entry.short, help=entry.short)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that is called, and load it."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and name in self.entries:
            command = load(name, self.entries[name])
        return name, command, rest

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands under their headings."""
        del ctx
        headings: dict[str, list[tuple[str, str]]] = {}
        for name, entry in self.entries.items():
            headings.setdefault(entry.heading, []).append((name, entry.short))
        for heading, rows in headings.items():
            with formatter.section(heading):
                formatter.write_dl(rows, col_max=_LONGEST_OPTION)

    format_epilog = Command.format_epilog


@functools.cache
def load(name: str, entry: Entry) -> Any:
    """A command as typer has it, with its options and its examples."""
    function = name.replace("-", "_")
    module = import_module(f"turnwise.cli.{entry.module or function}")
    options: dict[str, Any] = {}
    context = dict(CONTEXT)
    if entry.takes_command:
        # After the first word of the command to run, nothing is turnwise's own option.
        options["options_metavar"] = "[OPTIONS] --"
        context["allow_interspersed_args"] = False
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(
        name,
        cls=Command,
        context_settings=context,
        epilog=getattr(module, "EXAMPLES", {}).get(name),
        **options,
    )(getattr(module, function))
    return typer.main.get_command(app)
