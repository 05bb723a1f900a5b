"""System checks: what is wrong with ``settings.TURNWISE``, before anything runs."""

from typing import Any

from django.core.checks import CheckMessage, Error

from turnwise.contrib.django.configuration import problems


def check_settings(**_: Any) -> list[CheckMessage]:
    """Each problem with the settings, as ``turnwise.E001`` and so on."""
    return [
        Error(problem.message, hint=problem.hint, id=f"turnwise.E{problem.number:03d}")
        for problem in problems()
    ]
