"""Where a server listens, who may ask it, and how it ends.

In: address, port, token. Out: a socket that is bound before the model is loaded, so that a port in
use is told at once, and the loop of uvicorn on it until a signal comes.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from ipaddress import ip_address
from pathlib import Path

import uvicorn

from foldwise.errors import FoldwiseError
from foldwise.serving.app import Server

VARIABLE = "FOLDWISE_TOKEN"
SHORTEST = 24  # characters of a token
_LARGEST = 4096  # bytes of its file
_ENDING_S = 5  # beyond the deadline of a request, for the last answers to be written


def read_token(file: Path | None) -> str | None:
    """Return the token that requests must bring: of a file, or of the environment; None for none.

    Raises:
        FoldwiseError: the file can't be read, or the token is short or can't stand in a header.
    """
    where = f"--token-file {file}" if file is not None else VARIABLE
    if file is None:
        given = os.environ.get(VARIABLE)
        if given is None:
            return None
    else:
        try:
            with file.open("rb") as opened:
                given = opened.read(_LARGEST).decode("ascii", "replace")
        except OSError as error:
            raise FoldwiseError(f"{where}: can't be read ({error.strerror})") from None
    token = given.strip()
    if len(token) < SHORTEST:
        raise FoldwiseError(
            f"{where}: a token has at least {SHORTEST} characters, this one {len(token)}; make one "
            "with: openssl rand -hex 24"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise FoldwiseError(f"{where}: a token is ASCII without spaces, on one line")
    return token


def bind(host: str, port: int, token: str | None) -> socket.socket:
    """Bind the address that is to be listened on; port 0 takes a free one.

    Raises:
        FoldwiseError: the address isn't of this machine, the port is taken, or others can reach it
            and there is no token.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise FoldwiseError(f"--host {host}: is no address of this machine ({error})") from None
    family, _, _, _, address = found[0]
    if token is None and not ip_address(str(address[0]).partition("%")[0]).is_loopback:
        raise FoldwiseError(
            f"--host {host}: others can reach it, so it needs a token: put one into the "
            f"environment variable {VARIABLE}, or into a file named by --token-file"
        )
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise FoldwiseError(
            f"--host {host} --port {port}: can't be listened on ({error.strerror}); choose "
            "another, or --port 0 for a free one"
        ) from None
    return bound


def address_of(bound: socket.socket) -> str:
    """Return the address of a bound socket as a browser takes it."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def loop_of(server: Server) -> uvicorn.Server:
    """Return the loop that answers a server's requests."""
    limits = server.limits
    return uvicorn.Server(
        uvicorn.Config(
            server.app,
            http="h11",
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            proxy_headers=False,  # who asks and which host was meant is what the connection says
            server_header=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=int(limits.timeout_s) + _ENDING_S,
        )
    )


def listen(server: Server, bound: socket.socket) -> None:
    """Answer requests until SIGTERM or SIGINT, then those that were taken in, and return."""
    running = loop_of(server)
    # What is loaded stays: without this, each full collection walks through all of it, and the
    # requests meanwhile wait.
    gc.collect()
    gc.freeze()
    # uvicorn raises the signal that ended it once more at the end, for whoever handled it before.
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, running.handle_exit)
    try:
        running.run(sockets=[bound])
    finally:
        gc.unfreeze()
        for number, handler in before.items():
            signal.signal(number, handler)
