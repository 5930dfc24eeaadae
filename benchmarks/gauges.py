"""What a run has used: CPU time and memory from /proc, quantiles from /metrics, the machine's RSA limit."""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from mtad.base.errors import Problem, Unavailable

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_RSA = re.compile(r"^rsa 2048 bits\s+\S+\s+\S+\s+([\d.]+)", re.MULTILINE)


def tree_cpu(root: int) -> float:
    """CPU seconds, user and system, of a process and all below it, with those that ended and were waited for.

    0.0 when it is gone. Resolution is a clock tick, 10 ms.
    """
    parents: dict[int, int] = {}
    times: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # it ended meanwhile
                continue
            # The name may hold blanks and parentheses; what follows its last one is fixed: proc(5).
            fields = stat.rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
            times[int(entry.name)] = sum(map(int, fields[11:15])) * _TICK
    return sum(seconds for pid, seconds in times.items() if _is_below(pid, root, parents))


def thread_cpu(pid: int) -> float:
    """CPU seconds of a living process with one thread, such as a backend of Postgres; OSError when it is gone.

    To the nanosecond where the kernel says so (/proc/PID/schedstat), else to a clock tick.
    """
    with contextlib.suppress(OSError):
        if ran := int(Path(f"/proc/{pid}/schedstat").read_text().split(maxsplit=1)[0]):
            return ran / 1e9
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


def _is_below(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid and pid != root:
        pid = parents.get(pid, 0)
    return pid == root


def peak_rss_mb(pid: int) -> float:
    """The most memory (VmHWM) that a living process ever had resident, in MB of 10^6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024 / 1e6


def buckets(pages: Iterable[str], name: str) -> dict[float, float]:
    """Upper bound → cumulative count of a histogram, over the /metrics pages of several workers."""
    found: dict[float, float] = {}
    for sample in _samples(pages, f"{name}_bucket"):
        bound = float(sample[0]["le"])
        found[bound] = found.get(bound, 0.0) + sample[1]
    return found


def total(pages: Iterable[str], name: str) -> float:
    """The sum of a counter over all its labels and several workers."""
    return sum(value for _, value in _samples(pages, name))


def _samples(pages: Iterable[str], name: str) -> Iterable[tuple[dict[str, str], float]]:
    for page in pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                if sample.name == name:
                    yield sample.labels, sample.value


def quantile(cumulative: dict[float, float], share: float) -> float:
    """The value below which `share` of the observations lie, linear within its bucket; 0.0 without any.

    Never above the last finite bound: what is beyond it, a histogram does not tell.
    """
    bounds = sorted(cumulative)
    if not bounds or not cumulative[bounds[-1]]:
        return 0.0
    wanted = share * cumulative[bounds[-1]]
    below, low = 0.0, 0.0
    for bound in bounds:
        count = cumulative[bound]
        if count >= wanted and count > below:
            if bound == float("inf"):
                break
            return low + (bound - low) * (wanted - below) / (count - below)
        below, low = count, min(bound, bounds[-2])
    return low


def rsa_limit(seconds: int) -> float:
    """RSA-2048 signatures a second on all cores together; Unavailable without openssl."""
    cores = len(os.sched_getaffinity(0))
    command = ["openssl", "speed", "-seconds", str(seconds), "-multi", str(cores), "rsa2048"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Unavailable("openssl: there is no such program (Debian: apt install openssl)") from None
    match = _RSA.search(done.stdout)
    if done.returncode or match is None:
        raise Problem(f"{' '.join(command)}: exit {done.returncode}, no figure for rsa 2048 bits")
    return float(match[1])
