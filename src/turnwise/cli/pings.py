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
        self._ping = _ping_of(jobs)

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
        before, self._ping = self._ping, _ping_of(jobs)
        if before is not None:
            before.close()

    def close(self) -> None:
        """Send what waits, and end."""
        self.change(())


def _ping_of(jobs: Iterable[Job]) -> "Ping | None":
    urls = {job.name: job.ping_url for job in jobs if job.ping_url is not None}
    if not urls:
        return None
    from turnwise.observers.ping import Ping  # noqa: PLC0415 (it loads what speaks HTTP)

    return Ping(urls)


def why_no_ping(job: Job) -> str | None:
    """Why a service's URL cannot be pinged; None where it can, or there is none."""
    try:
        made = _ping_of([job])
    except ValueError as error:
        return f"ping_url: {error}"
    if made is not None:
        made.close()
    return None
