"""Lists of numbers on a command line."""

import argparse


def numbers(text: str) -> list[int]:
    """`10,10000`; argparse says in one line what else was written."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"write numbers with commas between, not {text}") from None
