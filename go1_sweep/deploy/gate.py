"""Where a page of viser's is, and who may open it: viser itself lets everybody in."""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import logging
import secrets
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import websockets.asyncio.server

from go1_sweep.errors import BadInput

PORTS = range(8080, 8180)
"""Of which the first free one is taken, where none is named."""


@dataclass(frozen=True)
class Gate:
    """Where a page is, and what opens it.

    Attributes:
        host: that it listens on.
        port: likewise.
        reached_as: the host, as a browser can name it.
        token: in the address with which a browser comes, from then on in a cookie; ``None``: not asked for, since
            nobody from elsewhere can come.
    """

    host: str
    port: int
    reached_as: str
    token: str | None

    @property
    def address(self) -> str:
        """For a browser."""
        host = f"[{self.reached_as}]" if ":" in self.reached_as else self.reached_as
        return f"http://{host}:{self.port}" + (f"/?token={self.token}" if self.token else "")

    @contextlib.contextmanager
    def guarding(self) -> Iterator[None]:
        """Servers that start in here answer nobody without the token, nor a page of another site, whatever its name.

        viser starts its server in a thread of its own and has no hook for that; the library below it has one.

        Raises:
            RuntimeError: no server has started that asks.
        """
        serve, guarded = websockets.asyncio.server.serve, False

        def guarded_serve(*arguments: Any, process_request: Any, **options: Any) -> Any:
            nonlocal guarded
            guarded = True

            def answer(connection: Any, request: Any) -> Any:
                if refusal := self._refusal(request):
                    return connection.respond(HTTPStatus.FORBIDDEN, f"{refusal}\n")
                response = process_request(connection, request)
                if response is not None and self.token:
                    response.headers["Set-Cookie"] = f"{self._cookie}; Path=/; HttpOnly; SameSite=Strict"
                    response.headers["Referrer-Policy"] = "no-referrer"
                return response

            return serve(*arguments, process_request=answer, **options)

        logging.getLogger("websockets.server").setLevel(logging.CRITICAL)  # it tells of each who speaks no HTTP
        websockets.asyncio.server.serve = guarded_serve  # pyright: ignore[reportAttributeAccessIssue]
        try:
            yield
        finally:
            websockets.asyncio.server.serve = serve
        if not guarded:
            raise RuntimeError("viser starts its server in another way than it did: it cannot be guarded")

    @property
    def _cookie(self) -> str:
        return f"go1_sweep_{self.port}={self.token}"  # with the port: to a browser all those of a host are one

    def _refusal(self, request: Any) -> str:
        """Why the request is not answered; empty: it is."""
        host = urlsplit(f"//{request.headers.get('Host', '')}").hostname or ""
        if self.token is None and host != self.host and not _is_of_this_machine(host):
            return f"Open it as http://localhost:{self.port}: {host} may be a name that another site has given it"
        origin = request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("Host"):
            return "Pages of other sites may not steer this robot"
        given = parse_qs(urlsplit(request.path).query).get("token", [])
        cookies = [each.strip() for line in request.headers.get_all("Cookie") for each in line.split(";")]
        if self.token is None or _holds(given, self.token) or _holds(cookies, self._cookie):
            return ""
        return "Open the address that was printed when this began, with its token"


def gate(host: str, port: int | None) -> Gate:
    """Of a page that can listen there.

    Args:
        host: a name or an address of this machine.
        port: ``None``: a free one.

    Raises:
        BadInput: it cannot.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BadInput(f"--host: {host} is no address of this machine: {error.strerror}") from None
    addresses = [ipaddress.ip_address(str(address[0]).partition("%")[0]) for *_, address in found]
    is_elsewhere = not all(each.is_loopback for each in addresses)
    reached_as = socket.gethostname() if any(each.is_unspecified for each in addresses) else host
    refused = None
    for tried in [port] if port else PORTS:
        try:
            for family, *_, address in found:
                _bind(family, (address[0], tried, *address[2:]))
        except OSError as error:
            refused = error.strerror
        else:
            return Gate(host, tried, reached_as, secrets.token_urlsafe(16) if is_elsewhere else None)
    raise BadInput(f"Nobody can listen on {host}, port {port or f'{PORTS[0]} to {PORTS[-1]}'}: {refused}")


def _bind(family: int, address: tuple[Any, ...]) -> None:
    """Try to.

    Raises:
        OSError: one cannot.
    """
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as asyncio does
        tried.bind(address)


def _is_of_this_machine(host: str) -> bool:
    """Whether no other site can have made a browser take that name for this machine."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _holds(given: list[str], secret: str) -> bool:
    return any(hmac.compare_digest(each.encode(), secret.encode()) for each in given)
