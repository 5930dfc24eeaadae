"""Who receives: Postfix's smtp-sink, the lab's sink, or something that listens already. Loopback only."""

import asyncio
import contextlib
import ipaddress
import os
import shutil
from collections.abc import AsyncIterator, Sequence

import msgspec

from benchmarks.gauges import tree_cpu
from mtad.base.endpoint import host_and_port
from mtad.base.errors import InputError, Problem, Unavailable
from mtad.lab.installation import free_port
from mtad.lab.sink import Sink

# Debian's is in a folder that is not in everybody's PATH.
_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/libexec/postfix"])


class Receiver(msgspec.Struct, frozen=True):
    """Where it listens, and whose CPU time is its own. `lab` keeps the messages, if it is the lab's sink."""

    addresses: Sequence[tuple[str, int]]
    pids: Sequence[int] = ()
    lab: Sink | None = None

    def cpu(self) -> float | None:
        """CPU seconds so far; None when the processes are not ours to know."""
        return sum(map(tree_cpu, self.pids)) if self.pids else None


@contextlib.asynccontextmanager
async def receiving(wanted: str, ports: int) -> AsyncIterator[Receiver]:
    """Receive inside the block: `smtp-sink`, `lab`, or HOST:PORT of a server that is there, one port only.

    What is missing or wrong is said at once. The lab's sink runs in this process, so its CPU
    time is that of the whole benchmark.
    """
    if wanted == "lab":
        async with Sink(ports=ports) as sink:
            yield Receiver([("127.0.0.1", port) for port in sink.ports], [os.getpid()], sink)
    elif wanted == "smtp-sink":
        async with _smtp_sinks(ports) as receiver:
            yield receiver
    else:
        yield Receiver([loopback(wanted)])


def loopback(text: str) -> tuple[str, int]:
    """HOST:PORT; InputError when it is not an address of this machine: nobody else is to be flooded."""
    try:
        host, port = host_and_port(text)
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise InputError(f"--sink {text}: write smtp-sink, lab or 127.0.0.1:PORT") from None
    if not local:
        raise InputError(f"--sink {text}: must be a loopback address")
    return host, port


def smtp_sink_program() -> str:
    """Its path; Unavailable when Postfix is not installed."""
    if path := shutil.which("smtp-sink", path=_SEARCH):
        return path
    raise Unavailable("smtp-sink: there is no such program (Debian: apt install postfix); or --sink lab")


@contextlib.asynccontextmanager
async def _smtp_sinks(ports: int) -> AsyncIterator[Receiver]:
    """A process a port; each takes everything and keeps nothing."""
    # It refuses to run as root.
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    free: set[int] = set()
    while len(free) < ports:  # the kernel may name one twice: 20 of 28,000, once in 150 runs
        free.add(free_port())
    addresses = [("127.0.0.1", port) for port in sorted(free)]
    processes: list[asyncio.subprocess.Process] = []
    try:
        for host, port in addresses:
            command = [smtp_sink_program(), *user, "-m", "4000", f"inet:{host}:{port}", "1024"]
            started = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
            processes.append(started)
        await asyncio.gather(*(_until_it_listens(*address) for address in addresses))
        yield Receiver(addresses, [process.pid for process in processes])
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await asyncio.gather(*(process.wait() for process in processes))


async def _until_it_listens(host: str, port: int) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()
            return
        await asyncio.sleep(0.05)
    raise Problem(f"smtp-sink does not listen on {host}:{port}")
