"""The pings of the services of a file, which may be loaded anew while they are sent."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from turnwise.cli.file import Job
from turnwise.events import Event

if TYPE_CHECKING:
    from turnwise.observers.ping import Ping


class Pings:
    """An observer that pings the switch of each service that has one.

    Args:
        jobs: the services.

    Raises:
        ValueError: a URL is none that can be pinged.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._urls = _urls_of(jobs)
        self._ping = _ping_to(self._urls)

    def __call__(self, event: Event) -> None:
        """Hear an event."""
        ping = self._ping
        if ping is not None:
            ping(event)

    def change(self, jobs: Iterable[Job]) -> None:
        """Ping for these services from now on; what waits is sent first.

        Raises:
            ValueError: a URL is none that can be pinged; those before stay in force.
        """
        urls = _urls_of(jobs)
        if urls == self._urls:
            return  # what waits for a switch that is away goes on to wait
        before, self._ping = self._ping, _ping_to(urls)
        self._urls = urls
        if before is not None:
            before.close()

    def close(self) -> None:
        """Send what waits, and end."""
        self.change(())


def _urls_of(jobs: Iterable[Job]) -> dict[str, str]:
    return {job.name: job.ping_url for job in jobs if job.ping_url is not None}


def _ping_to(urls: dict[str, str]) -> "Ping | None":
    if not urls:
        return None
    from turnwise.observers.ping import Ping  # noqa: PLC0415 (it loads what speaks HTTP)

    return Ping(urls)


def why_no_ping(job: Job) -> str | None:
    """Why a service's URL cannot be pinged; None where it can, or there is none."""
    try:
        made = _ping_to(_urls_of([job]))
    except ValueError as error:
        return f"ping_url: {error}"
    if made is not None:
        made.close()
    return None
