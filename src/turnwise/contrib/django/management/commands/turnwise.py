"""``manage.py turnwise``: serve until SIGTERM."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from turnwise.contrib.django.serving import scheduler
from turnwise.errors import MissingExtraError, StorageError


class Command(BaseCommand):
    """Runs the jobs of all apps, each once in its period, beside all processes that do the same."""

    help = "Run the jobs of all apps until SIGTERM, taking turns with all who do the same."
    requires_migrations_checks = True

    def handle(self, *_: Any, **__: Any) -> None:
        """Serve until SIGTERM or SIGINT; a second one ends the grace of what still runs."""
        try:
            serving = scheduler()
            jobs = ", ".join(serving.services) or "no jobs: no app has a jobs.py"
            self.stdout.write(f"Serving in group {serving.group}: {jobs}")
            self.stdout.flush()
            serving.run()
        except (MissingExtraError, StorageError, ValueError) as error:  # ValueError: no such URL
            raise CommandError(str(error)) from error
