"""How much room is left on the disks that everything depends on: that of the journals, and of our own Postgres.

A disk that is full stops the database, and after it the journals: mail waits, and hits
are answered without being kept. So it is told of while there is still something to do.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import Gauge

from mtad.base.config import Config
from mtad.ops.postgres import Postgres

FREE = Gauge("mtad_disk_free_ratio", "Share of a disk that is free, of bytes or of inodes, whichever is less", ["of"])


class Disks:
    """Looks when asked, which may take as long as the disk does: not in the loop."""

    def __init__(self, folders: Mapping[str, Path], least_percent: float) -> None:
        """`folders`: by what stands there; below `least_percent` free there is too little room, 0 is never."""
        self._folders = folders
        self._least = least_percent / 100

    @classmethod
    def from_config(cls, config: Config) -> "Disks":
        """The state folder's, and that of the embedded database; of another nobody knows here."""
        folders = {"state": config.state}
        if config.database.url == "embedded":
            folders["postgres"] = Postgres(config.state / "postgres").home
        return cls(folders, config.metrics.least_free_percent)

    def look(self) -> str:
        """What is short of room, in a sentence; '' where nothing is. A folder that cannot be looked at is none."""
        short = ""
        for name, folder in self._folders.items():
            with contextlib.suppress(OSError):
                free = free_ratio(folder)
                FREE.labels(of=name).set(free)
                if free < self._least and not short:
                    short = f"{free:.1%} of the disk of {name} is free, less than metrics.least_free_percent"
        return short


def free_ratio(folder: Path) -> float:
    """What of the disk below a folder we may still use, bytes or inodes, whichever is less; 0.0 to 1.0."""
    disk = os.statvfs(folder)
    room = disk.f_bavail / disk.f_blocks if disk.f_blocks else 1.0
    names = disk.f_favail / disk.f_files if disk.f_files else 1.0  # file systems without a limit say 0
    return min(room, names)
