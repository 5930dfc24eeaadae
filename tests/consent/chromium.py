"""A headless Chromium for tests, driven over its DevTools protocol with the HTTP client that we have anyway."""

import asyncio
import base64
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def program() -> str:
    """Where Chromium is. Without one the test is skipped, for this reason only; in CI, which installs it, it fails."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        say = pytest.fail if os.environ.get("CI") else pytest.skip
        say("there is no Chromium here, and `make test` could not install it")
    return found


class Browser:
    """One page of one browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._session: str | None = None

    async def attach(self) -> None:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        await self.call("Page.enable")

    async def call(self, method: str, *, until: str = "", **params: Any) -> Any:
        """Its answer, and with `until` not before that event, which it brings about."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        await self._socket.send_json(message | ({"sessionId": self._session} if self._session else {}))
        result: Any = None
        answered, happened = False, not until
        while not (answered and happened):
            heard = await self._socket.receive_json()
            happened |= heard.get("method") == until
            if heard.get("id") == number:
                assert "error" not in heard, (method, heard["error"])
                result, answered = heard["result"], True
        return result

    async def look(self, *, width: int, dark: bool = False) -> None:
        """Through a window of this width, CSS pixels."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = "dark" if dark else "light"
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", until="Page.loadEventFired", url=url)

    async def without_scripts(self) -> None:
        """Pages that are opened from now on run none."""
        await self.call("Emulation.setScriptExecutionDisabled", value=True)

    async def tab(self, times: int = 1) -> None:
        for _ in range(times):
            await self._press("Tab", 9)

    async def space(self) -> None:
        await self._press(" ", 32, text=" ")

    async def enter(self) -> None:
        """A button, or a link, that leads to another page."""
        await self._press("Enter", 13, text="\r", until="Page.loadEventFired")

    async def type(self, text: str) -> None:
        await self.call("Input.insertText", text=text)

    async def _press(self, key: str, code: int, *, text: str = "", until: str = "") -> None:
        named: dict[str, Any] = {
            "key": key, "code": "Space" if key == " " else key, "windowsVirtualKeyCode": code,
        }  # fmt: skip
        await self.call("Input.dispatchKeyEvent", until=until, type="keyDown", text=text, **named)
        if not until:
            await self.call("Input.dispatchKeyEvent", type="keyUp", **named)

    async def text(self) -> str:
        """What stands on the page, as the accessibility tree has it."""
        tree = await self.call("Accessibility.getFullAXTree")
        words = [
            node.get("name", {}).get("value", "") for node in tree["nodes"] if node["role"]["value"] == "StaticText"
        ]
        return " ".join(words)

    async def value(self, expression: str) -> Any:
        """Of JavaScript on the page, a promise's when it is there."""
        found = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def picture(self, path: str) -> None:
        shot = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        Path(path).write_bytes(base64.b64decode(shot["data"]))  # noqa: ASYNC240 - nobody waits meanwhile


@contextlib.asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Started, with an empty page; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="mtad-chromium-", ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            program(),
            "--headless",
            "--no-sandbox",  # as root, and in containers, there is none
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-extensions",
            "--disable-background-networking",
            "--disable-component-update",
            f"--user-data-dir={folder}",
            "--remote-debugging-port=0",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "HOME": folder},
        )
        try:
            url = await _listens(process)
            async with aiohttp.ClientSession() as http, http.ws_connect(url, max_msg_size=0) as socket:
                browser = Browser(socket)
                await browser.attach()
                yield browser
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _listens(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    said = b""
    async for line in process.stderr:
        said += line
        if b"DevTools listening on " in line:
            return line.decode().split("DevTools listening on ")[1].strip()
    raise AssertionError(said.decode(errors="replace"))
