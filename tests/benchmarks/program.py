"""A benchmark's command line in this process: the start of another one costs more than most of what is asked here."""

import contextlib
import io
import sys
from importlib import import_module
from unittest import mock


def run(name: str, *arguments: str) -> tuple[int, str]:
    """The exit code and what it said on stderr, as `python -m benchmarks.NAME …` ends."""
    said, shown = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [name, *arguments]),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(shown),
    ):
        try:
            import_module(f"benchmarks.{name}").main()
        except SystemExit as ended:
            return int(ended.code or 0), said.getvalue()
    return 0, said.getvalue()
