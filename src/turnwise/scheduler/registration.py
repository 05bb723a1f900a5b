"""Registering functions as services: what a scheduler, real or virtual, takes."""

from collections.abc import Callable
from typing import TypeVar, Unpack

from turnwise.names import checked_name
from turnwise.scheduler.functions import served
from turnwise.scheduler.knobs import Duration, Knobs, settings_with
from turnwise.schedules import Cron, Every, Schedule, parse_schedule
from turnwise.settings import Settings

Function = Callable[..., object]
"""A function that is served: plain or a coroutine function, with its turn or without."""

_F = TypeVar("_F", bound=Function)


class Registration:
    """The services that were registered, by name."""

    def __init__(self) -> None:
        self._registered: dict[str, tuple[Function | None, Settings]] = {}

    def every(
        self,
        interval: Duration,
        *,
        offset: Duration = "0",
        name: str | None = None,
        **knobs: Unpack[Knobs],
    ) -> Callable[[_F], _F]:
        """Register a function that is due every so often; for use as a decorator.

        Args:
            interval: time between two due instants, such as ``"5m"``.
            offset: moves the due instants from the Unix epoch.
            name: the service's name; the function's by default.
            **knobs: see :class:`~turnwise.settings.Settings`.

        Raises:
            TypeError, ValueError: as :meth:`add`.
        """
        return self._decorator(Every(interval, offset), name, knobs)

    def cron(
        self,
        expression: str,
        *,
        timezone: str = "UTC",
        name: str | None = None,
        **knobs: Unpack[Knobs],
    ) -> Callable[[_F], _F]:
        """Register a function that is due by a cron expression; for use as a decorator.

        Args:
            expression: five fields, or six with seconds, such as ``"0 3 * * *"``.
            timezone: the zone whose wall clock it is read by, such as ``"Europe/Vienna"``.
            name: the service's name; the function's by default.
            **knobs: see :class:`~turnwise.settings.Settings`.

        Raises:
            MissingExtraError: the extra ``cron`` is not installed.
            TypeError, ValueError: as :meth:`add`.
        """
        return self._decorator(Cron(expression, timezone), name, knobs)

    def add(
        self,
        function: Function | None,
        schedule: Schedule | str,
        *,
        name: str | None = None,
        **knobs: Unpack[Knobs],
    ) -> None:
        """Register a function: plain or a coroutine function, with a turn or without.

        Args:
            function: what to run in each turn; None where the program asks for its turns
                itself (:meth:`~turnwise.scheduler.Scheduler.turn`), and then a name must be given.
            schedule: when it is due: a schedule, or its text such as ``"every 5m"``.
            name: the service's name, 1 to 255 characters; the function's by default.
            **knobs: see :class:`~turnwise.settings.Settings`.

        Raises:
            TypeError: the function is none that can be served, or a knob is not of its type.
            ValueError: a service has this name already, or a knob is out of its range.
            ForkError: the scheduler was started before a fork.
        """
        self._check()
        if name is None:
            name = getattr(function, "__name__", None)
            if name is None or name == "<lambda>":
                raise ValueError(f"name must be given for {function!r}, which has none of its own")
        checked_name("name", name)
        if name in self._registered:
            raise ValueError(f"name must be new, and {name!r} is a service already")
        settings = checked_settings(function, schedule, knobs)
        self._registered[name] = (function, settings)
        self._added(name, function, settings)

    @property
    def services(self) -> dict[str, Settings]:
        """The settings of each service, by its name, in the order of their registration."""
        return {name: settings for name, (_, settings) in self._registered.items()}

    def _decorator(self, schedule: Schedule, name: str | None, knobs: Knobs) -> Callable[[_F], _F]:
        def register(function: _F) -> _F:
            self.add(function, schedule, name=name, **knobs)
            return function

        return register

    def _check_known(self, name: str) -> None:
        if checked_name("name", name) not in self._registered:
            raise ValueError(f"name must be that of a service, got {name!r}")

    def _check(self) -> None:
        """Raise where nothing can be registered now."""

    def _added(self, name: str, function: Function | None, settings: Settings) -> None:
        """A service was registered."""


def checked_settings(function: Function | None, schedule: Schedule | str, knobs: Knobs) -> Settings:
    """The settings that a function is registered with; refuses what can never run."""
    if function is not None:
        served(function)
    if isinstance(schedule, str):
        schedule = parse_schedule(schedule)
    return settings_with(schedule, knobs)
