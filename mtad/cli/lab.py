"""`mtad lab`: a receiving server to try against what must not happen in earnest."""

import asyncio
import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop

from mtad.base.errors import InputError, Unavailable
from mtad.cli.shell import JsonOption

app = typer.Typer(help="Receive mail on this machine, and misbehave.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """A group, though it has one command only."""


@app.command()
def sink(
    *,
    ports: Annotated[list[int] | None, typer.Option("--port", min=0, max=65535, help="Repeatable. 0: any.")] = None,
    faults: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="STAGE:FAULT[*N]",
            help="What it does wrong, always or N times: body:reset, rcpt:4xx*3, 'dot:451 4.3.0 full'. Repeatable.",
        ),
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Offer STARTTLS, with a certificate of its own.")] = False,
    most: Annotated[int, typer.Option("--most", min=0, help="End after so many mails; 0: Ctrl-C ends it.")] = 0,
    dialogue: Annotated[bool, typer.Option("--dialogue", help="Show what is said, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Receive on 127.0.0.1, print a line a mail, keep nothing. A route of the configuration leads to it."""
    # Half of the time that every command needs to start went into the lab's imports.
    from mtad.lab.faults import read_faults  # noqa: PLC0415

    def say(line: Mapping[str, object]) -> None:
        print(msgspec.json.encode(line).decode() if as_json else _told(line), flush=True)

    try:
        script = read_faults(faults or ())
    except ValueError as error:
        raise InputError(f"--fault {error}") from None
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(_receive(ports or [0], script, say, tls=tls, most=most, dialogue=dialogue))


async def _receive(
    ports: Sequence[int],
    script: Mapping[str, Iterator[str]],
    say: Callable[[Mapping[str, object]], None],
    *,
    tls: bool,
    most: int,
    dialogue: bool,
) -> None:
    from mtad.lab.certificate import server_context  # noqa: PLC0415 - as above
    from mtad.lab.sink import Received, Sink  # noqa: PLC0415

    def arrived(copy: Received) -> None:
        say(
            {"at": copy.at, "session": copy.session, "port": copy.port, "sender": copy.sender}
            | {"recipient": copy.recipient, "octets": len(copy.message), "answered": copy.answered}
        )

    def noted(session: int, who: str, text: str) -> None:
        say({"session": session, "who": who, "text": text})

    with tempfile.TemporaryDirectory() as folder:
        context = server_context(Path(folder)) if tls else None
    receiving = Sink(
        ports=ports, faults=script, tls=context, arrived=arrived, keeps=False, noted=noted if dialogue else None
    )
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(receiving)
        except OSError as error:
            raise Unavailable(f"--port {' '.join(map(str, ports))}: {error.strerror or error}") from error
        say({"listening": [f"127.0.0.1:{port}" for port in receiving.ports]})
        await (receiving.wait_for(most) if most else asyncio.Event().wait())


def _told(line: Mapping[str, object]) -> str:
    """The line for people."""
    match line:
        case {"listening": list() as places}:
            return f"listening on {', '.join(places)}"
        case {"who": who, "text": text, "session": session}:
            return "\n".join(f"{session} {who or '-'}: {part}" for part in str(text).splitlines() or [""])
        case _:
            answer = "" if line["answered"] else ", and no 250"
            return "{session}: {octets} octets from <{sender}> to <{recipient}>".format(**line) + answer
