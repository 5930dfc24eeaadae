"""A command of mtad in this process: to start another for each is half of what a test costs."""

import asyncio
import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from mtad.base.errors import Problem
from mtad.cli import main


def run_here(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `mtad …` in that folder prints and ends with. Not for `run`, which stays."""
    shown, said = io.StringIO(), io.StringIO()
    code = 0
    with (
        contextlib.chdir(folder),
        mock.patch.object(sys, "argv", ["mtad", *arguments]),
        mock.patch.dict(os.environ, COLUMNS="200"),
        contextlib.redirect_stdout(shown),
        contextlib.redirect_stderr(said),
    ):
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, code, shown.getvalue(), said.getvalue())


async def asked_here(folder: Path, *arguments: str) -> Any:
    """What a command prints with --json; Problem with its own words when it fails."""
    done = await asyncio.to_thread(run_here, folder, *arguments, "--json")
    if done.returncode:
        raise Problem(done.stderr)
    return json.loads(done.stdout or "null")
