"""Four workers, each of which serves turns from its fork to its end."""

import flask_app

workers = 4
graceful_timeout = 30  # longer than what a turn may take to end: after it comes SIGKILL


def post_worker_init(worker: object) -> None:
    """The worker has been forked, and has its application."""
    del worker
    flask_app.scheduler.start()


def worker_exit(server: object, worker: object) -> None:
    """The worker ends, and answers no more requests."""
    del server, worker
    flask_app.scheduler.stop(25)
