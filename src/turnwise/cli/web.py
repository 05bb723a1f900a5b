"""``turnwise web``: a page to look at, in a browser."""

import ipaddress
import socket
from contextlib import suppress
from typing import Annotated

import typer

from turnwise.cli.errors import BadInput
from turnwise.cli.given import whole_number
from turnwise.cli.options import DEFAULT_GROUP, Group, StorageUrl, option
from turnwise.cli.storage import open_existing
from turnwise.errors import MissingExtraError
from turnwise.names import printable

_LARGEST_PORT = 65_535
_BACKLOG = 128

EXAMPLES = {
    "web": """\
turnwise web
turnwise web --allow-control --port 9000
turnwise web --host 0.0.0.0 --allowed-host jobs.example.com
""",
}


Host = Annotated[
    str,
    option(
        "--host",
        metavar="ADDRESS",
        default="127.0.0.1",
        help="The address to listen at; 0.0.0.0 is every one that this machine has.",
    ),
]
Port = Annotated[
    int,
    option(
        "--port",
        parser=whole_number,
        default="8321",
        help="The port to listen at; 0 for one that is free.",
    ),
]
AllowControl = Annotated[
    bool,
    option(
        "--allow-control", help="Let whoever can reach the page pause, resume, trigger and drain."
    ),
]
AllowedHosts = Annotated[
    list[str] | None,
    option(
        "--allowed-host",
        metavar="NAME",
        default="localhost and this machine's name",
        help="A name that the page may be asked for by, such as jobs.example.com; an address "
        "always may. May be given several times.",
    ),
]


def web(
    *,
    storage: StorageUrl = None,
    group: Group = DEFAULT_GROUP,
    host: Host = "127.0.0.1",
    port: Port = 8321,
    allow_control: AllowControl = False,
    allowed_host: AllowedHosts = None,
) -> int:
    """Serve a page with all services, their turns, and the runners, until Ctrl-C.

    It looks and changes nothing, unless --allow-control is given. It has no login: whoever can
    reach it can read it, which by default is everybody on this machine.
    """
    if not 0 <= port <= _LARGEST_PORT:
        raise BadInput(f"--port must be 0 to {_LARGEST_PORT:,}, got {port}")
    try:
        import uvicorn  # noqa: PLC0415 (an extra)

        from turnwise.web import create_app, local_names  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise MissingExtraError(
            "the page needs the extra 'web': pip install 'turnwise[web]'"
        ) from error
    with open_existing(storage) as store, _listening(host, port) as listener:
        app = create_app(
            store,
            group=group,
            allow_control=allow_control,
            hosts=local_names(*(allowed_host or ())),
            warm=True,
        )
        config = uvicorn.Config(
            app, log_level="warning", server_header=False, proxy_headers=False, lifespan="on"
        )
        _greet(listener, group, allow_control=allow_control)
        with suppress(KeyboardInterrupt):  # that is how it ends
            uvicorn.Server(config).run(sockets=[listener])
    return 0


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens there, so that a port that is taken is said in one line.

    Raises:
        BadInput: nothing can listen there.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:  # the latter where it can be no name of a host
        why = getattr(error, "strerror", None) or str(error)
        raise BadInput(f"nothing can listen at {printable(host)}, port {port}: {why}") from error


def _greet(listener: socket.socket, group: str, *, allow_control: bool) -> None:
    address, port = listener.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    what = "with control" if allow_control else "read-only"
    typer.echo(f"http://{shown}:{port}/ shows group {printable(group)}, {what}; Ctrl-C ends it")
    if not ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        may = "read it, and pause and trigger services" if allow_control else "read it"
        typer.echo(f"whoever can reach this machine can {may}: it has no login", err=True)
