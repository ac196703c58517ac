"""What is checked of every request before anything reads its body: Host, Origin and token.

A page of another site can have a browser send requests to a server on the same machine. It can't
choose what the browser says of itself: the Host that its name led to (DNS rebinding) and the Origin
that it comes from. So both must be this server's own.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foldwise.serving.limits import Refused
from foldwise.serving.meters import Meters

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Lets requests through to an app, or answers them itself.

    Args:
        app: what answers.
        names: of the server, that a Host header may say; localhost and the address that a
            connection came in on may always be said.
        token: that a request must bring; None for none.
        open_paths: that need no token, because they say nothing of the run.
        paths: that are counted by their name; all others are counted as one.
        meters: told of every answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        names: Collection[str],
        token: str | None,
        open_paths: Collection[str],
        paths: Collection[str],
        meters: Meters,
    ) -> None:
        self._app = app
        self._names = {"localhost", *(name.lower() for name in names)}
        self._token = None if token is None else _digest(token.encode())
        self._open = frozenset(open_paths)
        self._paths = frozenset(paths)
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            if (refused := self._refused(scope)) is not None:
                answer = JSONResponse(refused.as_json(), refused.status, refused.headers)
                await answer(scope, receive, sent)
            else:
                await self._app(scope, receive, sent)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._meters.requests.labels(path, str(status)).inc()
            self._meters.request_s.labels(path).observe(time.perf_counter() - began)

    def _refused(self, scope: Scope) -> Refused | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._is_ours(host, scope):
            return Refused(
                421,
                "the Host header names another server; if this one is called so, start it with "
                "--host-name",
            )
        origins = headers.getlist("origin")
        if any(_netloc(origin) != host.lower() for origin in origins):
            return Refused(403, "the request comes from a page of another site")
        if self._token is None or scope["path"] in self._open:
            return None
        kind, _, given = headers.get("authorization", "").partition(" ")
        # Digests are compared: neither time nor length says how much of a guess was right.
        right = hmac.compare_digest(_digest(given.strip().encode("latin-1")), self._token)
        if kind.lower() == "bearer" and right:
            return None
        return Refused(
            401,
            "the token is absent or wrong: send it as Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _is_ours(self, host: str, scope: Scope) -> bool:
        name = _name(host)
        if name is None:
            return False
        server: tuple[str, int] | None = scope.get("server")
        return name in self._names or (server is not None and _same_address(name, server[0]))


def _name(host: str) -> str | None:
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises where it isn't a number
        name = parts.hostname
    except ValueError:
        return None
    odd = parts.username is not None or parts.path or parts.query or parts.fragment
    return None if odd or not name else name


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _same_address(name: str, address: str) -> bool:
    try:
        named, reached = ip_address(name), ip_address(address)
    except ValueError:
        return False
    # A socket for both kinds of addresses shows those of IPv4 inside one of IPv6.
    return named in (reached, getattr(reached, "ipv4_mapped", None))


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
