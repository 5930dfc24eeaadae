"""Which processes of Postgres work in a data folder, by /proc: a pid file alone proves nothing."""

from pathlib import Path


def works_in(pid: int | str, folder: Path) -> bool:
    """Whether a live process of Postgres has its working directory there, as each of them has its data folder."""
    process = Path("/proc") / str(pid)
    try:
        name, state = (process / "stat").read_text().partition("(")[2].rpartition(")")[::2]
        if state.split()[0] == "Z":
            return False
        try:
            return (process / "cwd").readlink() == folder
        except PermissionError:  # root without CAP_SYS_PTRACE, in many containers
            return name == "postgres"
    except OSError:
        return False


def inhabited(folder: Path) -> bool:
    """Whether any does: the server, or a child that outlives it."""
    return any(works_in(entry.name, folder) for entry in Path("/proc").iterdir() if entry.name.isdigit())
