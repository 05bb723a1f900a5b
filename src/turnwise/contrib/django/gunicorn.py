"""Hooks for gunicorn's configuration, with ``--preload`` and without.

::

    from turnwise.contrib.django.gunicorn import post_worker_init, worker_exit
"""

from turnwise.contrib.django.serving import start, stop

__all__ = ["post_worker_init", "worker_exit"]


def post_worker_init(worker: object) -> None:
    """The worker has been forked, and has its application: serve in it."""
    del worker
    start()


def worker_exit(server: object, worker: object) -> None:
    """The worker ends, and answers no more requests: leave."""
    del server, worker
    stop()
