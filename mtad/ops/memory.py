"""How much memory there is, and what of it our own Postgres takes."""

import contextlib
import os
from pathlib import Path

_MB = 1 << 20


def sizes(memory: int) -> dict[str, str]:
    """What depends on the machine's memory, in bytes: a quarter for shared buffers, 128 MB to 4 GB."""
    return {
        "shared_buffers": f"{min(max(memory // 4 // _MB, 128), 4096)}MB",
        "effective_cache_size": f"{max(memory // 2 // _MB, 256)}MB",
    }


def memory() -> int:
    """Bytes that this process may use: the machine's, or what a control group above it leaves."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError):
        group = Path("/sys/fs/cgroup") / Path("/proc/self/cgroup").read_text().rpartition("::/")[2].strip()
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):
                found = min(found, int((folder / "memory.max").read_text()))
    return found
