"""`mtad lab sink` says what it receives, and does wrong what it is told."""

import asyncio
import socket
from typing import Any

import pytest
from typer.testing import CliRunner

from mtad.base.errors import InputError, Problem, Unavailable
from mtad.cli.lab import _receive, _told, app
from mtad.lab.faults import read_faults
from tests.lab.talk import talk

MAIL = b"EHLO me\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@y.test>\r\n"
MESSAGE = b"DATA\r\nhi\r\n.\r\n"


async def test_a_line_a_mail_until_so_many_have_come() -> None:
    lines: list[Any] = []
    script = read_faults(["rcpt:4xx*1", "dot:polite*1", "dot:close"])
    receiving = asyncio.create_task(_receive([0], script, lines.append, tls=False, most=2, dialogue=False))
    while not lines:  # noqa: ASYNC110 - it says so itself
        await asyncio.sleep(0)
    port = int(lines[0]["listening"][0].partition(":")[2])
    heard = [await talk(port, MAIL), await talk(port, MAIL + MESSAGE), await talk(port, MAIL + MESSAGE)]
    await receiving

    assert [codes[3:] for codes in heard] == [["450"], ["250", "354", "250"], ["250", "354"]]
    assert [(line["recipient"], line["octets"], line["answered"]) for line in lines[1:]] == [
        ("b@y.test", 4, True),
        ("b@y.test", 4, False),
    ]
    assert _told(lines[2]) == "3: 4 octets from <a@x.test> to <b@y.test>, and no 250"


async def test_the_dialogue_is_shown_on_request() -> None:
    lines: list[Any] = []
    receiving = asyncio.create_task(
        _receive([0], read_faults(["data:421"]), lines.append, tls=True, most=0, dialogue=True)
    )
    while not lines:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)
    await talk(int(lines[0]["listening"][0].partition(":")[2]), MAIL + b"DATA\r\n")
    receiving.cancel()

    told = "\n".join(map(_told, lines[1:])).splitlines()
    assert "1 server: 250-STARTTLS" in told
    assert told[-4:] == ["1 client: DATA", "1 server: 421 4.0.0 bye", "1 -: close", "1 -: gone"]


def test_what_cannot_be_done_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wrong: dict[tuple[str, ...], tuple[type[Problem], str]] = {
            ("--fault", "rcpt:6xx"): (InputError, "--fault 'rcpt:6xx': '6xx' is none of 4xx"),
            ("--port", str(taken.getsockname()[1])): (Unavailable, "--port"),
        }
        for arguments, (kind, said) in wrong.items():
            error = CliRunner().invoke(app, ["sink", *arguments]).exception

            assert isinstance(error, kind)
            assert str(error).startswith(said)


@pytest.mark.parametrize("option", ["--fault", "--json", "--tls"])
def test_help_names_what_it_takes(option: str) -> None:
    assert option in CliRunner().invoke(app, ["sink", "--help"], env={"COLUMNS": "200"}).stdout
