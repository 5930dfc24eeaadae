"""The README's production chapter as a stranger types it: its files, its commands, in its order."""

import asyncio
import re
import shlex
import sys
from pathlib import Path

from mtad.lab.installation import Installation, free_port
from mtad.lab.sink import Sink

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)

# What sets up a virtual environment, is shown by other tests, or does not end by itself.
APART = re.compile(r"make |python3 -m venv|mtad (?:init|check|run)\b")

# A file says its name in its first line.
NAMED = re.compile(r"(?:#|<!--) (\S+\.(?:toml|html))\b")


def commands() -> list[list[str]]:
    lines = [line.removeprefix("$ ") for kind, text in BLOCKS if kind == "console" for line in text.splitlines()]
    return [shlex.split(line) for line in lines if not APART.match(line)]


def write_files(folder: Path) -> None:
    """Those that the README shows, and beside them the ones that it only names."""
    for kind, text in BLOCKS:
        if named := NAMED.match(text):
            path = folder / named[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif kind == "csv":
            (folder / "people.csv").write_text(text, encoding="utf-8")
    (folder / "more").mkdir()
    (folder / "more" / "message.html").write_bytes((folder / "hello" / "message.html").read_bytes())
    for message in ("hello", "more"):
        (folder / message / "subject.txt").write_text("Welcome", encoding="utf-8")
    (folder / "left.csv").write_text("gone@example.net\n", encoding="utf-8")


async def test_the_commands_of_the_readme_work_as_they_stand(folder: Path) -> None:
    installation = Installation(folder)
    await installation.command("init", "--domain", "example.com", "--dir", str(folder))
    write_files(folder)
    async with Sink() as sink:
        installation.route({"*": sink.port}, tracker_port=free_port(), rate=100)
        await installation.start()
        try:
            while "msg=ready" not in installation.log_path.read_text(encoding="utf-8"):
                installation.require_running()
                await asyncio.sleep(0.01)
            said = {}
            for program, *arguments in commands():
                assert program == "mtad"
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "mtad", *arguments,
                    cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                )  # fmt: skip
                output, _ = await process.communicate()
                assert process.returncode == 0, f"{arguments}: {output.decode()}"
                said[" ".join(arguments[:2])] = output.decode()
        finally:
            code = await installation.stop()

    assert code == 0
    assert "1 mail queued, 0 left out" in said["program start"], said
    assert said["program preview"].split()[:2] == ["welcome-hello.html", "welcome-hello.txt"]
    assert "it adds up" in said["audit welcome"]
    assert "ann@example.net" in said["contact show"]
    assert "me@example.com" in [message.recipient for message in sink.messages]
