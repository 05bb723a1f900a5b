"""Django: jobs in ``jobs.py`` of each app, run once by one of the processes of a project.

::

    INSTALLED_APPS = [..., "turnwise.contrib.django"]

    # shop/jobs.py
    from turnwise.contrib.django import cron, every

    @every("5m")
    def tidy_up() -> None: ...

``manage.py migrate`` makes the tables. ``manage.py turnwise`` serves until SIGTERM; or
:func:`start` in each worker of the web server, after its fork.

Not guaranteed
--------------
What :mod:`turnwise.scheduler` does not guarantee, is not guaranteed here either. A job shares its
process with the requests. A test's database that is in memory is no storage, because nobody else
could reach it.

How it works
------------
Around each turn the connections of its thread are looked at and closed, as around a request, so
that a connection that was lost costs no later turn. turnwise itself has two connections of its own
to the database in each process that serves.
"""

from turnwise.errors import MissingExtraError

try:
    import django as _django  # noqa: F401 (so that one line says what is missing)
except ImportError as error:
    raise MissingExtraError(
        "turnwise.contrib.django needs the extra 'django': pip install 'turnwise[django]'"
    ) from error

from turnwise.contrib.django.registry import cron, every
from turnwise.contrib.django.serving import scheduler, start, stop

__all__ = ["cron", "every", "scheduler", "start", "stop"]
