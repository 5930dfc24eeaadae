"""wrk, which asks as fast as it is answered, and nginx, the yardstick: a GIF from memory, nothing written."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec

from benchmarks.openloop import AGENTS
from mtad.base.errors import Problem, Unavailable
from mtad.lab.installation import free_port

# Debian's nginx is in a folder that is not in everybody's PATH.
_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])

# One thread: it asks 100,000 times a second, which is more than anything here answers.
_SCRIPT = """\
local paths = {}
local thread
n = -1
function setup(one) thread = one end
function init(arguments)
  for line in io.lines(arguments[1]) do paths[#paths + 1] = line end
  local host, client = " HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n", "\\r\\nX-Forwarded-For: fd" .. arguments[2]
  behind = {}
  for number, agent in ipairs({%AGENTS%}) do behind[number] = host .. "User-Agent: " .. agent .. client end
end
function request()
  n = n + 1  -- 0 is a trial of wrk's own, which it does not send
  local number = string.format(":%x:%x::1\\r\\n\\r\\n", math.floor(n / 65536), n % 65536)
  return "GET " .. paths[(n - 1) % #paths + 1] .. behind[n % #behind + 1] .. number
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\\n{"sent":%d,"answered":%d,"seconds":%.6f,"failed":%d,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f}\\n',
    thread:get("n"), summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
"""

# As bare as it serves a GIF: one worker, no log, a process in our folder that listens on loopback.
_NGINX = """\
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  keepalive_requests 1000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{ empty_gif; }}
  }}
}}
"""


class Flood(msgspec.Struct, frozen=True):
    """What wrk says. Requests 1 to `sent` went out; those beyond `answered` were on the wire when it stopped."""

    sent: int
    answered: int
    seconds: float
    failed: int  # with an error, or a status above 399
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def under_way(self) -> int:
        """Of how many of the last requests some may have been on the wire: of twice the longest that one took."""
        return self.sent - self.answered + int(2 * self.max_ms / 1000 * self.rate)

    @property
    def rate(self) -> float:
        return self.answered / self.seconds


def wrk_program() -> str:
    """Its path; Unavailable when it is not installed."""
    return _program("wrk", "wrk")


def nginx_program() -> str:
    """Its path; Unavailable when it is not installed."""
    return _program("nginx", "nginx-light")


def _program(name: str, package: str) -> str:
    if path := shutil.which(name, path=_SEARCH):
        return path
    raise Unavailable(f"{name}: there is no such program (Debian: apt install {package})")


async def flood(port: int, paths: Path, *, seconds: int, connections: int, mark: int) -> Flood:
    """Ask for the paths in turn, each request with its number, as benchmarks.openloop."""
    script = paths.with_suffix(".lua")
    script.write_text(_SCRIPT.replace("%AGENTS%", ", ".join(f'"{agent}"' for agent in AGENTS)), encoding="ascii")
    process = await asyncio.create_subprocess_exec(
        wrk_program(), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout=10s", "-s", str(script),
        f"http://127.0.0.1:{port}/", "--", str(paths), f"{mark:02x}",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said = (await process.communicate())[0].decode(errors="replace").strip().splitlines() or [""]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode or not said[-1].startswith("{"):
        raise Problem(f"wrk: exit {process.returncode}: {said[-1]}")
    return msgspec.json.decode(said[-1], type=Flood)


@contextlib.asynccontextmanager
async def nginx(folder: Path) -> AsyncIterator[int]:
    """Every path is answered with a GIF inside the block; the port."""
    port = free_port()
    user = "user nobody nogroup;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(folder=folder, port=port, user=user), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        nginx_program(), "-p", str(folder), "-c", str(config), "-e", str(folder / "nginx.log"),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await _until_it_serves(process, port, folder / "nginx.log")
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _last_line(log: Path) -> str:
    return (log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else [""])[-1]


async def _until_it_serves(process: "asyncio.subprocess.Process", port: int, log: Path) -> None:
    async with aiohttp.ClientSession() as http:
        for _ in range(200):
            if process.returncode is not None:
                raise Problem(f"nginx: exit {process.returncode}: {_last_line(log)}")
            with contextlib.suppress(aiohttp.ClientConnectionError):
                async with http.get(f"http://127.0.0.1:{port}/"):
                    return
            await asyncio.sleep(0.05)
    raise Problem(f"nginx does not serve on 127.0.0.1:{port}")
