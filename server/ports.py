"""Whether the ports can be opened: known before anything is loaded, and told by the knob to change."""

import errno
import os
import socket
from contextlib import ExitStack

from server.core.errors import ConfigurationError
from server.settings import Settings, knob


def try_ports(settings: Settings) -> None:
    """Open both ports, the private one where there is one, and close them again.

    Raises:
        ConfigurationError: one line that names the knob, and why its port can't be opened.
    """
    with ExitStack() as opened:
        _open(opened, settings, "host", "port")
        if settings.admin_port is not None:
            _open(opened, settings, "admin_host", "admin_port")


def _open(opened: ExitStack, settings: Settings, host_name: str, port_name: str) -> None:
    host, port = getattr(settings, host_name), getattr(settings, port_name)
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigurationError(f"{knob(host_name)}: no address is known of {host}") from None
    for family, _, _, _, address in found:
        try:
            opened.enter_context(socket.create_server(address, family=family))
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT:
                continue
            name = host_name if error.errno == errno.EADDRNOTAVAIL else port_name
            why = os.strerror(error.errno or 0)
            raise ConfigurationError(f"{knob(name)}: can't listen on {address[0]}, port {port}: {why}") from None
