"""`mtad demo`: the whole thing for real, on loopback, in a temporary folder."""

import asyncio
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from mtad.base.clock import SystemClock
from mtad.cli.shell import JsonOption, database, print_json

app = typer.Typer()

# Where there is no terminal to tell its width.
PLAIN_WIDTH = 120

# What a shell calls an end by SIGTERM.
TERMINATED = 143


@app.command()
def demo(
    *,
    contacts: Annotated[int, typer.Option("--contacts", min=200, help="How many; 200 show all of the story.")] = 2000,
    seed: Annotated[int, typer.Option("--seed", help="Another number makes other people.")] = 1,
    stay: Annotated[bool, typer.Option("--stay", help="Leave it running until Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Import, sign, send, open, click, leave: for real, on loopback. Exit 1 if the books do not agree."""
    # Half of the time that every command needs to start went into the lab's imports.
    from mtad.lab.demo import run_demo  # noqa: PLC0415
    from mtad.lab.installation import Installation, demo_folder  # noqa: PLC0415
    from mtad.lab.screen import Screen  # noqa: PLC0415
    from mtad.lab.stage import DOMAIN, Options  # noqa: PLC0415

    console = Console(stderr=as_json)
    if not console.is_terminal:
        console = Console(stderr=as_json, width=PLAIN_WIDTH)
    folder, lock = demo_folder()
    with lock, Screen(console) as screen:
        place = Installation(folder)
        asyncio.run(place.command("init", "--domain", DOMAIN, "--dir", str(folder)))
        with database(place.config) as url:
            options = Options(contacts=contacts, seed=seed, stay=stay)
            try:
                result = uvloop.run(run_demo(options, place, url, screen, SystemClock()))
            except asyncio.CancelledError:
                raise typer.Exit(TERMINATED) from None
    if as_json:
        print_json(result)
    if result.disagreements:
        raise typer.Exit(1)
