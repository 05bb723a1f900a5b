"""A proxy that does to a connection what a bad network does."""

import contextlib
import re
import select
import socket
import threading
from enum import StrEnum
from urllib.parse import parse_qs, unquote, urlsplit

_CHUNK = 65536


class Fault(StrEnum):
    """What happens to what comes next."""

    NONE = "none"
    CUT_BEFORE = "cut before the request arrives"
    CUT_AFTER = "cut after the request has arrived, before its answer"
    SWALLOW = "nothing arrives, in either direction, and nobody is told"


class Proxy:
    """Passes connections on to a server, unless told otherwise.

    ``url`` is the server's with the proxy's address. ``fault`` may be set at any moment; a cut
    happens to each connection that says something next, until it is set back. Where ``only`` is
    set, requests without these bytes, and their answers, are let through. ``passed`` counts
    bytes, in both directions.
    """

    only = b""

    def __init__(self, server_url: str) -> None:
        self.fault = Fault.NONE
        self.struck = self.passed = 0
        self.server_url = server_url
        self._server = _address_of(server_url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = _with_address(server_url, self._listener.getsockname()[1])
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no more, and cut what is open."""
        self._listener.close()
        self.cut()

    def lead_to(self, server_url: str) -> None:
        """Lead new connections to another server, as a name does that is given to another host."""
        self._server = _address_of(server_url)

    def cut(self) -> None:
        """Cut every connection now."""
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        kind = socket.AF_UNIX if isinstance(self._server, str) else socket.AF_INET
        with client, socket.socket(kind) as server, contextlib.suppress(OSError):
            server.connect(self._server)
            self._connections += [client, server]
            is_meant = False
            while True:
                readable, _, _ = select.select([client, server], [], [])
                for source in readable:
                    chunk = source.recv(_CHUNK)
                    if source is client:
                        is_meant = self.only in chunk
                    if not chunk or (is_meant and self._is_cut(source is client)):
                        return
                    if self.fault is Fault.SWALLOW:
                        self.struck += 1
                        continue
                    self.passed += len(chunk)
                    (server if source is client else client).sendall(chunk)

    def _is_cut(self, from_client: bool) -> bool:
        cut = self.fault is (Fault.CUT_BEFORE if from_client else Fault.CUT_AFTER)
        self.struck += cut
        return cut


def _address_of(url: str) -> str | tuple[str, int]:
    """Where a server listens: a socket's path, or a host and a port."""
    parts = urlsplit(url)
    folder = parse_qs(parts.query).get("host")
    if folder:
        return f"{unquote(folder[0])}/.s.PGSQL.5432"
    return parts.hostname or "127.0.0.1", parts.port or 0


def _with_address(url: str, port: int) -> str:
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    query = re.sub(r"(^|&)host=[^&]*", "", parts.query)
    # A link that swallows must be told from one over which nothing was ever negotiated.
    if parts.scheme.startswith("postgresql"):
        query = "&".join(filter(None, (query, "sslmode=disable")))
    return parts._replace(netloc=f"{user}{at}127.0.0.1:{port}", query=query).geturl()
