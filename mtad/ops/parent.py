"""The worker's side of the line to its supervisor: one inherited socket, `--parent-fd`.

The worker writes one byte when it is ready. It never gets one: reading ends when
the supervisor is gone, however it went, and then nobody would replace or stop the
worker, so it has to drain and leave. (PR_SET_PDEATHSIG would be lost when the
*thread* that started the worker ends, and is Linux' alone.)
"""

import asyncio
import socket

READY = b"R"

# Where the worker finds the database's URL. Not an argument: everybody on the
# machine may read those, and it may hold a password.
DATABASE_VARIABLE = "MTAD_DATABASE"


def report_ready(fd: int) -> None:
    """Tell the supervisor that this worker has its database and its sockets, and works."""
    with socket.socket(fileno=_copy(fd)) as line:
        line.setblocking(False)
        try:
            line.send(READY)
        except OSError:
            return  # the supervisor is gone; parent_gone says so


async def parent_gone(fd: int) -> None:
    """Return when the supervisor has ended. Does not close `fd`."""
    with socket.socket(fileno=_copy(fd)) as line:
        line.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            while await loop.sock_recv(line, 64):
                pass
        except ConnectionError:
            return


def _copy(fd: int) -> int:
    with socket.socket(fileno=fd) as line:
        copy = line.dup().detach()
        line.detach()
    return copy
