"""Beat's scheduler: a turnwise scheduler whose services are the entries of ``beat_schedule``."""

import os
import re
import uuid
from typing import Any

from celery import Celery, beat
from celery.exceptions import ImproperlyConfigured
from celery.schedules import crontab

import turnwise
from turnwise import Turn
from turnwise.contrib.celery.schedules import schedule_of
from turnwise.storages.urls import without_password

_SETTINGS = ("turnwise_group", "turnwise_knobs", "turnwise_runner_id", "turnwise_storage")
_OURS = re.compile(r"(?:.*_)?(turnwise_.*)", re.IGNORECASE)  # a namespace may stand before it
_GRACE_SECONDS = 20.0
_LONGEST_TICK_SECONDS = 5.0
_TASK_IDS = uuid.UUID("5d6c8f0e-1f0b-4c53-9d0c-6c1f2d1a7f5e")


class Scheduler(beat.Scheduler):  # type: ignore[misc] # Celery has no types
    """Beat's scheduler, for ``celery beat --scheduler turnwise.contrib.celery:Scheduler``.

    Every node starts beat, with the same ``beat_schedule``. Each entry is a service of its name,
    and sent once in its period, by the node whose turn it is. Settings of the app:

    - ``turnwise_storage``: the storage's URL; by default ``TURNWISE_STORAGE`` of the environment.
    - ``turnwise_group``: which beats belong together; by default ``TURNWISE_GROUP`` of the
      environment, or ``celery``.
    - ``turnwise_runner_id``: this node's; by default one that is unique to the process.
    - ``turnwise_knobs``: by entry, what :class:`~turnwise.settings.Settings` has beside the
      schedule, such as ``{"nightly": {"start_within": "2h", "attempts": 5}}``.

    Where ``beat_cron_starting_deadline`` is set, it is the ``start_within`` of every crontab.

    Raises:
        ImproperlyConfigured: an entry or a setting cannot be served; the message names it.
    """

    def __init__(self, app: Celery, *args: Any, **kwargs: Any) -> None:
        self._is_ticking = self._has_started = False
        self._turnwise: turnwise.Scheduler | None = None
        super().__init__(app, *args, **kwargs)

    def setup_schedule(self) -> None:
        """Read the entries; beat calls this where it is going to run, and not just to look."""
        self.merge_inplace(self.app.conf.beat_schedule)
        self.install_default_entries(self.schedule)
        self._turnwise = self._built()
        knobs = self._knobs_by_entry()
        for name, entry in self.schedule.items():
            self._add(self._turnwise, name, entry, knobs.get(name, {}))

    def tick(self, *_: Any, **__: Any) -> float:
        """Start to serve at the first call, and see that it goes on.

        Returns:
            Seconds until beat shall call this again.

        Raises:
            RuntimeError: the scheduler has ended by a bug, which was logged.
        """
        self._is_ticking = True
        try:
            serving = self._turnwise
            assert serving is not None  # noqa: S101 (set up)
            if not self._has_started:
                # Not before: beat may fork between its making and its first tick.
                serving.start()
                self._has_started = True
            elif not serving.health().is_running:
                raise RuntimeError("turnwise has ended by a bug, which was logged")
        finally:
            self._is_ticking = False
        return min(float(self.max_interval), _LONGEST_TICK_SECONDS)

    def close(self) -> None:
        """Send nothing any more, and leave, so that the other nodes need not wait to find out.

        Beat calls this in the handler of a signal, and once more at its end. Within a tick that a
        signal has interrupted nothing can be stopped, so that the second call does it.
        """
        if self._is_ticking:
            return
        if self._turnwise is not None:
            self._turnwise.stop(_GRACE_SECONDS)
        super().close()

    @property
    def info(self) -> str:
        """What beat shows of it when it starts."""
        storage = self.app.conf.get("turnwise_storage")
        shown = "of the environment" if storage is None else without_password(str(storage))
        return f"    . storage -> {shown}"

    # Sending ----------------------------------------------------------------------------------

    def _send(self, name: str, turn: Turn) -> None:
        """Send an entry's message, or raise, so that another node tries.

        All attempts at a period have one task id, by which a task can tell that it came twice.
        """
        entry = self.schedule[name]
        options = dict(entry.options)
        options.setdefault("task_id", str(_task_id(turn)))
        options["headers"] = {
            **(options.get("headers") or {}),
            "turnwise_due": turn.due.isoformat(),
            "turnwise_fencing_token": turn.fencing_token,
        }
        beat.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)
        turn.check()
        # Without a producer, a thread takes one from the app's pool.
        self.apply_async(
            self.Entry(**{**dict(entry), "options": options}), producer=None, advance=False
        )

    # Setting up -------------------------------------------------------------------------------

    def _built(self) -> turnwise.Scheduler:
        conf = self.app.conf
        ours = {found[1].lower() for key in conf if (found := _OURS.fullmatch(key))}
        unknown = sorted(ours.difference(_SETTINGS))
        if unknown:
            raise ImproperlyConfigured(
                f"no such setting: {', '.join(unknown)}; known are {', '.join(_SETTINGS)}"
            )
        group = conf.get("turnwise_group") or os.environ.get("TURNWISE_GROUP") or "celery"
        try:
            return turnwise.Scheduler(
                conf.get("turnwise_storage"),
                group=group,
                runner_id=conf.get("turnwise_runner_id"),
            )
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"the settings of turnwise: {error}") from error

    def _knobs_by_entry(self) -> dict[str, dict[str, Any]]:
        knobs = self.app.conf.get("turnwise_knobs") or {}
        unknown = sorted(set(knobs) - set(self.schedule))
        if unknown:
            raise ImproperlyConfigured(
                f"turnwise_knobs: no such entry of beat_schedule: {', '.join(unknown)}"
            )
        return dict(knobs)

    def _add(
        self, serving: turnwise.Scheduler, name: str, entry: Any, knobs: dict[str, Any]
    ) -> None:
        def send(turn: Turn) -> None:
            self._send(name, turn)

        try:
            schedule = schedule_of(entry.schedule, _zone_of(self.app))
            deadline = self.app.conf.beat_cron_starting_deadline
            if deadline is not None and isinstance(entry.schedule, crontab):
                knobs = {"start_within": f"{deadline}s", **knobs}
            serving.add(send, schedule, name=name, **knobs)
        except (TypeError, ValueError, turnwise.MissingExtraError) as error:
            raise ImproperlyConfigured(f"beat_schedule[{name!r}]: {error}") from error


def _task_id(turn: Turn) -> uuid.UUID:
    """The same for all attempts at a period; a triggered run has its own."""
    key = turn.run_id if turn.triggered else turn.due.isoformat()
    return uuid.uuid5(_TASK_IDS, f"{turn.group}\n{turn.service}\n{key}")


def _zone_of(app: Celery) -> str:
    """The name of the app's zone.

    Raises:
        ValueError: it has none, as the machine's own has not.
    """
    zone = app.timezone
    name = getattr(zone, "key", None) or ("UTC" if str(zone) == "UTC" else None)
    if name is None:
        raise ValueError(
            f"timezone must be the name of a zone, such as Europe/Vienna, got {zone!r}: set "
            "app.conf.timezone, because each node may have its own"
        )
    return str(name)
