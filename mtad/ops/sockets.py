"""Listening sockets: opened once, here or by systemd (sd_listen_fds(3)), and inherited by every worker.

Not SO_REUSEPORT: with a queue per process a frozen worker keeps its share of the
connections waiting, with one queue the others take them.
"""

import errno
import os
import socket
from collections.abc import MutableMapping

from mtad.base.endpoint import host_and_port
from mtad.base.errors import Unavailable

# The first file descriptor that systemd hands over.
_FIRST = 3

# While all workers are restarted connections wait here instead of being refused.
_BACKLOG = 1024


def open_listener(key: str, address: str) -> socket.socket:
    """Listen on ADDRESS:PORT; Unavailable names the key, the address and why not."""
    host, port = host_and_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # Not a second listener: only that connections of an earlier one may still linger.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        raise Unavailable(f"{key}: cannot listen on {address}: {_reason(error)}") from None
    return sock


def inherited_listeners(environ: MutableMapping[str, str] = os.environ) -> dict[str, socket.socket]:
    """What systemd opened for us, by FileDescriptorName; the variables are taken out of `environ`."""
    pid, count, names = (environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    found: dict[str, socket.socket] = {}
    for fd, name in zip(range(_FIRST, _FIRST + int(count)), names.split(":"), strict=False):
        found[name] = socket.socket(fileno=fd)
        found[name].set_inheritable(False)
        found[name].setblocking(False)
    return found


def _reason(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another program listens there already"
        case errno.EACCES:
            return "permission denied; ports below 1024 are root's, or systemd's to hand over (mtad.socket)"
        case errno.EADDRNOTAVAIL:
            return "this machine does not have that address"
        case _:
            return error.strerror or str(error)
