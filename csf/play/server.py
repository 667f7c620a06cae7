"""Starts a viser server on an address that is checked first, and stops it, without output."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Iterator
from typing import Any

from csf.errors import ConfigError, optional
from csf.play import MISSING

PATIENCE = 1.0  # seconds to wait for the end of the connections


def import_viser() -> Any:
    """Import viser.

    Raises:
        MissingDependency: it is not installed.
    """
    return optional("viser", MISSING)


def check_address(host: str, port: int) -> None:
    """Check that a server can listen on an address; viser would take another port, or try forever.

    Raises:
        ConfigError: the host is not one of this machine, or the port is taken or not allowed.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(
            f"cannot listen on host={host} port={port}: {reason}; accepted: a free port, port=0 for any, "
            f"and an address of this machine, such as 127.0.0.1 or 0.0.0.0"
        ) from error


@contextlib.contextmanager
def serving(host: str, port: int) -> Iterator[Any]:
    """Run a viser server in background threads.

    Raises:
        ConfigError: as `check_address`.
        MissingDependency: viser is not installed.
    """
    viser = import_viser()
    check_address(host, port)
    with _silent():
        server = viser.ViserServer(host=host, port=port, verbose=False)
    try:
        yield server
    finally:
        _stop(server)


def _stop(server: Any) -> None:
    """Stop a server; a visitor that does not answer, such as a suspended computer, is not waited for."""
    thread = threading.Thread(target=server.stop, daemon=True)
    with _silent():
        thread.start()
        thread.join(PATIENCE)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Discard what viser prints when a server starts and stops."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield
