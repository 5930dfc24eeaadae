"""A Postfix with OpenDKIM of its own in a temporary folder: loopback only, nothing of the system's is touched.

Both are Debian's packages and run in the foreground as our children: what `postfix
start-fg` does, without its checks of the system's folders. Configuration, queue, data,
log, socket and key lie in one folder, and all of it ends with the block.
"""

import asyncio
import contextlib
import os
import pwd
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from mtad.base.errors import Problem, Unavailable
from mtad.lab.installation import free_port

_DAEMONS = "/usr/lib/postfix/sbin"
_COMMANDS = "/usr/sbin"
_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), _COMMANDS])

_FILES = Path(__file__).with_name("postfix_files")

_QUEUES = (
    "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "pid", "private", "saved", "trace",
)  # fmt: skip
_SHARED = ("maildrop", "public")  # of the group postdrop

# What is in one of these is not delivered yet.
_WAITING = ("incoming", "active", "deferred", "hold")

_STOP_SECONDS = 10.0

_QMGR = "qmgr unix n - n 300 1 qmgr\n"


class Tuning(msgspec.Struct, frozen=True):
    """What Postfix' users turn; `more` are lines of main.cf."""

    processes: int = 100
    concurrency: int = 20
    more: Mapping[str, str] = {}


class Postfix(msgspec.Struct, frozen=True):
    """A running instance: where mail is handed in, and what its processes are."""

    folder: Path
    port: int
    master: int
    opendkim: int

    def release(self) -> None:
        """Start the queue manager of an instance that holds its mail; it finds all that is waiting."""
        with (self.folder / "etc/master.cf").open("a", encoding="utf-8") as file:
            file.write(_QMGR)
        os.kill(self.master, signal.SIGHUP)

    def is_empty(self) -> bool:
        """No message is waiting or on its way; asks one directory entry each."""
        return not any(_has_file(self.folder / "queue" / name) for name in _WAITING)

    def is_delivering(self) -> bool:
        """The queue manager has taken a message up."""
        return _has_file(self.folder / "queue/active")

    def sent(self) -> int:
        """Deliveries that the log tells of; Problem with its line at the first that failed."""
        found = 0
        with (self.folder / "mail.log").open(encoding="utf-8", errors="replace") as log:
            for line in log:
                if " status=sent " in line:
                    found += 1
                elif " status=" in line or " fatal: " in line or " panic: " in line or "milter-reject" in line:
                    raise Problem(f"Postfix: {line.strip()}")
        return found


def _has_file(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.is_file(follow_symlinks=False) or _has_file(Path(entry.path)) for entry in entries)


def require_packages() -> None:
    """Unavailable, in one line, when one of the two packages or the right to run them is missing."""
    if not Path(_DAEMONS, "master").is_file():
        raise Unavailable("Postfix: there is no such program (Debian: apt install postfix)")
    if not shutil.which("opendkim", path=_SEARCH):
        raise Unavailable("OpenDKIM: there is no such program (Debian: apt install opendkim)")
    if os.geteuid() != 0:
        raise Unavailable("Postfix: its master has to be started by root; run this benchmark as root")


@contextlib.asynccontextmanager
async def postfix(
    folder: Path,
    key: bytes,
    *,
    domain: str,
    selector: str,
    routes: Mapping[str, tuple[str, int]],
    tuning: Tuning,
    holds: bool = False,
) -> AsyncIterator[Postfix]:
    """Run inside the block, in an empty folder; `routes` names the server of each domain.

    One that `holds` takes mail into its queue, signed and safe, and delivers none of it until `release`.
    """
    port = free_port()
    _lay_out(folder, key)
    transports = ", ".join(f"{{ {name} = smtp:[{host}]:{at} }}" for name, (host, at) in routes.items())
    text = _filled("main.cf",
        folder=folder, daemons=_DAEMONS, commands=_COMMANDS, domain=domain, transports=f"inline:{{ {transports} }}",
        processes=tuning.processes, concurrency=tuning.concurrency,
    )  # fmt: skip
    text += "".join(f"{name} = {value}\n" for name, value in tuning.more.items())
    (folder / "etc/main.cf").write_text(text, encoding="utf-8")
    (folder / "etc/master.cf").write_text(_filled("master.cf", port=port) + ("" if holds else _QMGR), encoding="utf-8")
    dkim = _filled("opendkim.conf", folder=folder, domain=domain, selector=selector)
    (folder / "opendkim.conf").write_text(dkim, encoding="utf-8")
    opendkim = [shutil.which("opendkim", path=_SEARCH) or "", "-f", "-x", str(folder / "opendkim.conf")]
    master = [f"{_DAEMONS}/master", "-s", "-c", str(folder / "etc")]
    async with (
        _running(opendkim, folder / "opendkim.log") as signer,
        _running(master, folder / "master.log") as started,
    ):
        await _until_it_greets(port, [signer, started], folder)
        yield Postfix(folder, port, started.pid, signer.pid)


def _filled(name: str, **values: object) -> str:
    return (_FILES / name).read_text(encoding="utf-8").format(**values)


def _lay_out(folder: Path, key: bytes) -> None:
    """The folders and owners that Postfix wants: postfix-files(5)."""
    owner = pwd.getpwnam("postfix")
    # Postfix' processes run as that user, who has to pass through here.
    folder.chmod(0o711)
    for name in ("etc", "queue", "data", *(f"queue/{queue}" for queue in (*_QUEUES, *_SHARED))):
        (folder / name).mkdir()
    for name in ("data", *(f"queue/{queue}" for queue in (*_QUEUES, *_SHARED) if queue != "pid")):
        os.chown(folder / name, owner.pw_uid, -1)
        (folder / name).chmod(0o700)
    # The signer makes its socket here, as the user `postfix`.
    os.chown(folder, owner.pw_uid, -1)
    private = folder / "dkim.pem"
    private.write_bytes(key)
    private.chmod(0o600)
    os.chown(private, owner.pw_uid, owner.pw_gid)


@contextlib.asynccontextmanager
async def _running(command: Sequence[str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process in a session of its own: Ctrl-C is for us, and its children end with it."""
    with log.open("wb") as file:
        process = await _start(command, file)
        try:
            yield process
        finally:
            await _stop(process)


async def _start(command: Sequence[str], log: IO[bytes]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def _until_it_greets(port: int, processes: Sequence[asyncio.subprocess.Process], folder: Path) -> None:
    """Return when Postfix answers with 220 and the signer's socket is there; Problem with what a log says last."""
    for _ in range(200):
        if any(process.returncode is not None for process in processes):
            break
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            greeting = await reader.readline()
            writer.close()
            await writer.wait_closed()
            if greeting.startswith(b"220"):
                return
        await asyncio.sleep(0.05)
    logs = [folder / name for name in ("mail.log", "master.log", "opendkim.log")]
    said = [text for log in logs if log.exists() and (text := log.read_text(errors="replace").strip())]
    raise Problem(f"Postfix and OpenDKIM do not start: {said[0].splitlines()[-1] if said else 'no word of why'}")
