"""The app."""

from django.apps import AppConfig
from django.core import checks
from django.utils.module_loading import autodiscover_modules


class TurnwiseConfig(AppConfig):
    """It finds the jobs: ``jobs.py`` of each app is imported, as ``admin.py`` is."""

    name = "turnwise.contrib.django"
    label = "turnwise"
    verbose_name = "turnwise"

    def ready(self) -> None:
        """Import the jobs, and have the settings checked."""
        from turnwise.contrib.django.checks import check_settings  # noqa: PLC0415

        checks.register(check_settings)
        autodiscover_modules("jobs")
