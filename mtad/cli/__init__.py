"""The command line: arguments to calls, nothing else. Each file holds one group of commands."""

from mtad.cli.main import main

__all__ = ["main"]
