"""What a viewer may do to a service or a runner, where the page was made with control."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Protocol
from urllib.parse import parse_qsl

from starlette.requests import Request

from turnwise.controls import Controls
from turnwise.durations import parse_duration
from turnwise.names import checked_name
from turnwise.storages import Storage

_LARGEST_FORM = 16_384
_LONGEST_PAUSE = timedelta(days=36_530)
_FORM = "application/x-www-form-urlencoded"


class CommandName(StrEnum):
    """What can be done: to a service the first three, to a runner the others."""

    PAUSE = "pause"
    RESUME = "resume"
    TRIGGER = "trigger"
    DRAIN = "drain"
    UNDRAIN = "undrain"


OF_RUNNERS = frozenset({CommandName.DRAIN, CommandName.UNDRAIN})


@dataclass(frozen=True, slots=True)
class Command:
    """What a viewer asks for.

    ``target`` is the name of a service; of a runner, where it is about draining. ``until`` is when
    a pause ends by itself: an instant, or how long from now; None for not.
    """

    name: CommandName
    target: str
    reason: str = ""
    until: datetime | timedelta | None = None


class Authorize(Protocol):
    """The mounting program's own authorization of a command."""

    def __call__(self, request: Request, command: Command, /) -> str | Awaitable[str | None] | None:
        """Who gives the command, as the history shall have it; None where they may not.

        A plain function is called in a thread of its own, a coroutine function on the loop.
        """


class RefusedError(Exception):
    """A command that is not carried out: the status of the answer, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


async def read_command(request: Request, name: CommandName) -> Command:
    """The command that a form asks for.

    Raises:
        RefusedError: it is no form, too large, or a field of it cannot be read.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise RefusedError(415, f"A command comes as {_FORM}.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_FORM:
            raise RefusedError(413, "The form is too large.")
    try:
        fields = dict(parse_qsl(body.decode(), keep_blank_values=True, errors="strict"))
        return _command(name, fields)
    except ValueError as error:
        raise RefusedError(400, f"The form cannot be read: {error}") from error


def _command(name: CommandName, fields: Mapping[str, str]) -> Command:
    target = checked_name("name", fields.get("name", ""))
    until = fields.get("until", "").strip()
    return Command(
        name,
        target,
        fields.get("reason", "").strip(),
        _until(until) if until and name is CommandName.PAUSE else None,
    )


def _until(text: str) -> datetime | timedelta:
    """An instant, in UTC where it names no zone, or how long from now."""
    try:
        length = parse_duration(text)
    except ValueError:
        pass
    else:
        if not timedelta(0) < length <= _LONGEST_PAUSE:
            raise ValueError(f"{text!r} is no time that a pause can last")
        return length
    try:
        read = datetime.fromisoformat(text)
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is neither a duration such as 2h30m nor an instant such as "
            "2026-01-31T12:00:00Z"
        ) from None


async def who_gives(
    authorize: Authorize | None,
    request: Request,
    command: Command,
    in_thread: Callable[[Callable[[], object]], Awaitable[object]],
) -> str:
    """Who gives a command, as the history shall have it.

    Raises:
        RefusedError: they may not.
    """
    if authorize is None:
        there = "somebody" if request.client is None else request.client.host
        return f"{there}, by the page"
    if _is_coroutine(authorize):
        answer = authorize(request, command)
    else:
        answer = await in_thread(lambda: authorize(request, command))  # type: ignore[assignment]
    if inspect.isawaitable(answer):
        answer = await answer
    if answer is None:
        raise RefusedError(403, "You may not do this.")
    if not isinstance(answer, str) or not answer:
        raise TypeError(f"authorize must answer who it is as text, or None, got {answer!r}")
    return answer


def _is_coroutine(authorize: Authorize) -> bool:
    called = getattr(authorize, "__call__", None)  # noqa: B004 (an object with such a method)
    return any(inspect.iscoroutinefunction(each) for each in (authorize, called))


def carry_out(storage: Storage, group: str, command: Command, by: str) -> str:
    """Carry a command out, and answer with the word of what to tell the viewer.

    Raises:
        RefusedError: there is no such service or runner, or what was asked for cannot be.
        StorageError: the storage does not answer; whether it was carried out is not known.
    """
    controls = Controls(storage, group, by=by)
    what = "runner" if command.name in OF_RUNNERS else "service"
    if what == "runner":
        there: object = command.target in {row.runner_id for row in storage.runners(group)}
    else:
        there = command.target in storage.services(group)
    if not there:
        raise RefusedError(404, f"There is no {what} {command.target!r}.")
    match command.name:
        case CommandName.PAUSE:
            return _pause(controls, command)
        case CommandName.RESUME:
            was_paused = controls.resume(command.target, reason=command.reason)
            return "resumed" if was_paused else "not-paused"
        case CommandName.TRIGGER:
            controls.trigger(command.target, reason=command.reason)
            return "triggered"
        case CommandName.DRAIN:
            controls.drain(command.target, reason=command.reason)
            return "drained"
        case CommandName.UNDRAIN:
            controls.undrain(command.target, reason=command.reason)
            return "undrained"


def _pause(controls: Controls, command: Command) -> str:
    try:
        controls.pause(command.target, reason=command.reason, until=command.until)
    except (ValueError, OverflowError) as error:
        raise RefusedError(400, f"The pause cannot end then: {error}") from error
    return "paused"


TOLD: Mapping[str, str] = {
    "paused": "It is paused: no run starts. A run that is at work goes on.",
    "resumed": "It is resumed.",
    "not-paused": "It was not paused.",
    "triggered": "It is triggered: whoever has the next slot runs it, within a heartbeat.",
    "drained": "It is drained: it takes no new run. What it works on goes on.",
    "undrained": "It takes runs again.",
}
"""What a viewer is told once a command was carried out."""
