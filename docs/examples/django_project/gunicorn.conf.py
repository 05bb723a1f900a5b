"""gunicorn's configuration: four workers, each of which takes turns at the jobs."""

from turnwise.contrib.django.gunicorn import post_worker_init, worker_exit  # noqa: F401

wsgi_app = "project.wsgi"
workers = 4
graceful_timeout = 30  # longer than TURNWISE["grace"], 20 s: after it comes SIGKILL
