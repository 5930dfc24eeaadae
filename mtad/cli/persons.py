"""What people may ask of us: `mtad contact export` and `erase`."""

import getpass
from pathlib import Path
from typing import Annotated

from typer import Argument, Option, Typer

from mtad.audience.keyed import SuppressionKey
from mtad.audience.persons import erase, erase_again, export, read_suppression_key
from mtad.base.config import Config
from mtad.base.errors import ConfigError, InputError
from mtad.cli import shell
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption

AddressArgument = Annotated[str, Argument(help="The contact's address.", show_default=False)]


def register(contact_app: Typer) -> None:
    """Add the commands about one person to `mtad contact`."""
    contact_app.command("export")(export_contact)
    contact_app.command("erase")(erase_contact)


def export_contact(address: AddressArgument, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Everything that is known of one person, as JSON: what GDPR articles 15 and 20 ask for."""
    shell.print_json(shell.run(config, lambda loaded, pool: export(pool, address, _key_if_there(loaded))))


def erase_contact(
    address: Annotated[str, Argument(help="The contact's address, known or not.")] = "",
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    yes: Annotated[bool, Option("--yes", help="Really: nothing brings it back.")] = False,
    again: Annotated[
        bool, Option("--again", help="Erase again whom a restored backup brought back, by their hashes.")
    ] = False,
    hashes: Annotated[
        Path | None, Option("--hashes", help="With --again: a copy of state/erased.hashes.", metavar="FILE")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Erase one person for good; a keyed hash keeps imports from bringing them back."""
    by = f"operator:{getpass.getuser()}"
    if again:
        if address:
            raise InputError(f"{address}: --again goes by hashes; leave the address out")
        found = shell.run(config, lambda loaded, pool: erase_again(pool, loaded, hashes, by))
        if as_json:
            shell.print_json({"erased_again": found})
        else:
            shell.out.print(f"{found:,} addresses erased again")
        return
    if not address:
        raise InputError("ADDRESS: is missing; or write --again")
    if not yes:
        raise InputError(f"{address}: nothing was erased: add --yes, or look first with `mtad contact export`")
    done = shell.run(config, lambda loaded, pool: erase(pool, loaded, address, by))
    if as_json:
        shell.print_json(done)
        return
    what = f"erased with {done.rows:,} rows" if done.contacts else "nobody had it, and no import will bring it"
    shell.out.print(f"{address}: {what}; what is left of it: {done.hash}", highlight=False, markup=False)
    for path in done.rejects:
        shell.out.print(f"{path}: lines taken out", soft_wrap=True, markup=False)


def _key_if_there(config: Config) -> SuppressionKey | None:
    """For an export; without the key the suppression of somebody erased cannot be found, all else can."""
    try:
        return read_suppression_key(config)
    except ConfigError:
        return None
