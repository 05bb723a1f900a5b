"""The scheduler of a project: one in each process that serves."""

import atexit
import functools
import threading
from functools import partial

from turnwise.contrib.django.configuration import configuration
from turnwise.contrib.django.databases import open_database
from turnwise.contrib.django.registry import jobs
from turnwise.scheduler import Scheduler

_making = threading.RLock()


def scheduler() -> Scheduler:
    """The scheduler of this process, with all jobs; it is made when it is first asked for.

    Raises:
        ImproperlyConfigured: ``settings.TURNWISE`` says what it cannot.
    """
    with _making:  # of two threads that ask first, one makes it
        return _scheduler()


@functools.cache
def _scheduler() -> Scheduler:
    said = configuration()
    made = Scheduler(
        said.storage if said.database is None else partial(open_database, said.database),
        group=said.group,
        runner_id=said.runner_id,
        observers=said.observers,
        may_run=said.may_run,
        grace=said.grace,
    )
    jobs.give_to(made)
    return made


def start() -> None:
    """Serve in this process from now on, and leave when it ends.

    Call it after the web server has forked its workers: in ``wsgi.py`` or ``asgi.py`` where each
    worker loads it for itself, else in a hook of the server's. In a process that serves already it
    does nothing.

    Raises:
        ImproperlyConfigured: ``settings.TURNWISE`` says what it cannot.
        SchemaError: the migrations have not made the tables.
        ForkError: it was started before the fork.
    """
    if scheduler().health().is_running:
        return
    scheduler().start()
    atexit.register(stop)


def stop() -> None:
    """Start no turn any more, give those that run the grace that the settings say, and leave.

    Raises:
        ForkError: it was started before the fork.
    """
    atexit.unregister(stop)
    scheduler().stop(configuration().grace)
