"""The jobs of a project: what ``jobs.py`` of each app has registered."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar, Unpack, cast

from django.apps import apps

from turnwise.contrib.django.connections import with_its_own_connections
from turnwise.scheduler.knobs import Duration, Knobs
from turnwise.scheduler.registration import Registration
from turnwise.schedules import Schedule
from turnwise.settings import Settings

if TYPE_CHECKING:
    from turnwise.scheduler import Scheduler

Function = Callable[..., object]
_F = TypeVar("_F", bound=Function)


class Jobs(Registration):
    """The jobs of all apps, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.scheduler: Scheduler | None = None

    def add(
        self,
        function: Function | None,
        schedule: Schedule | str,
        *,
        name: str | None = None,
        **knobs: Unpack[Knobs],
    ) -> None:
        """Register a job; its name begins with its app's label where none is given."""
        if name is None and function is not None:
            name = _name_of(function)
        if function is not None:
            function = with_its_own_connections(function)
        super().add(function, schedule, name=name, **knobs)

    def give_to(self, scheduler: "Scheduler") -> None:
        """Have a scheduler serve all jobs, and those that are yet to be registered."""
        for name, (function, settings) in self._registered.items():
            scheduler.add(function, settings.schedule, name=name, **_knobs_of(settings))
        self.scheduler = scheduler

    def _added(self, name: str, function: Function | None, settings: Settings) -> None:
        if self.scheduler is not None:
            self.scheduler.add(function, settings.schedule, name=name, **_knobs_of(settings))


jobs = Jobs()
"""The jobs of this process."""


def every(
    interval: Duration,
    *,
    offset: Duration = "0",
    name: str | None = None,
    **knobs: Unpack[Knobs],
) -> Callable[[_F], _F]:
    """Register a function that is due every so often; for use as a decorator in ``jobs.py``.

    The function itself stays as it is, so that a test can call it.

    Args:
        interval: time between two due instants, such as ``"5m"``.
        offset: moves the due instants from the Unix epoch.
        name: the service's name; by default the app's label and the function's name, such as
            ``shop.tidy_up``.
        **knobs: see :class:`~turnwise.settings.Settings`.

    Raises:
        TypeError: the function is none that can be served, or a knob is not of its type.
        ValueError: a service has this name already, or a knob is out of its range.
    """
    return jobs.every(interval, offset=offset, name=name, **knobs)


def cron(
    expression: str, *, timezone: str = "UTC", name: str | None = None, **knobs: Unpack[Knobs]
) -> Callable[[_F], _F]:
    """Register a function that is due by a cron expression; for use as a decorator.

    Args:
        expression: five fields, or six with seconds, such as ``"0 3 * * *"``.
        timezone: the zone whose wall clock it is read by. It is not Django's ``TIME_ZONE``, which
            is about what users are shown.
        name: as for :func:`every`.
        **knobs: see :class:`~turnwise.settings.Settings`.

    Raises:
        TypeError, ValueError: as :func:`every`.
    """
    return jobs.cron(expression, timezone=timezone, name=name, **knobs)


def _name_of(function: Function) -> str | None:
    """The function's name behind its app's label, so that two apps may have a ``tidy_up``."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", None)
    if name is None or name == "<lambda>":
        return None  # the registration says what is missing
    module = inspect.getmodule(function)
    app = None if module is None else apps.get_containing_app_config(module.__name__)
    return str(name) if app is None else f"{app.label}.{name}"


def _knobs_of(settings: Settings) -> Knobs:
    names = [field.name for field in fields(settings) if field.name != "schedule"]
    return cast("Knobs", {name: getattr(settings, name) for name in names})
