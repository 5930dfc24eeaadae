"""`mtad contact set-state`: an operator knows better."""

import getpass
from typing import Annotated

from typer import Argument, Option, Typer

from engine.service import SETTABLE, set_state
from mtad.base.db import Connection, in_transaction
from mtad.cli.answers_view import plain
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption, out, print_json, run
from mtad.ops.answers.person import contact_by_address
from mtad.ops.answers.programs import known_stream


def register(contact_app: Typer) -> None:
    """Add the command to `mtad contact`."""
    contact_app.command("set-state")(set_state_of_contact)


def set_state_of_contact(
    address: Annotated[str, Argument(metavar="ADDRESS", help="The contact's address.")],
    stream: Annotated[str, Argument(metavar="STREAM", help="The stream on which.")],
    state: Annotated[str, Argument(metavar="STATE", help=f"{', '.join(SETTABLE)}.")],
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    reason: Annotated[str, Option("--reason", metavar="TEXT", help="Why; stands in the log with your name.")],
    as_json: JsonOption = False,
) -> None:
    """Set the state of one contact on a stream; what was heard from them before counts no more."""

    async def change(conn: Connection) -> str:
        contact = await contact_by_address(conn, address)
        known = await known_stream(conn, stream)
        return await set_state(conn, contact.id, known.id, state, by=getpass.getuser(), reason=reason)

    before = run(config, lambda _, pool: in_transaction(pool, change))
    if as_json:
        print_json({"address": address, "stream": stream, "before": before, "state": state})
    else:
        out.print(plain(f"{address} on {stream}: {before} → {state}"))
