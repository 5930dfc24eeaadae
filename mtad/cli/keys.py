"""`mtad keys`: the keys of links, and how they are changed."""

from typing import Annotated

import typer

from mtad.base.config import load_config
from mtad.cli import shell
from mtad.cli.shell import DEFAULT_CONFIG, ConfigOption, JsonOption
from mtad.ops.trackingkeys import TrackingKey, standings
from mtad.ops.trackingkeys import add as add_key
from mtad.ops.trackingkeys import sign_with as sign_with_key

app = typer.Typer(help="The keys that sign links, pixels and return paths.", no_args_is_help=True)

_NEXT = "copy the file to every host and reload mtad there"


@app.command("list")
def list_(config: ConfigOption = DEFAULT_CONFIG, *, as_json: JsonOption = False) -> None:
    """Each key: all of them verify, one signs."""
    loaded = load_config(config)
    rows = standings(loaded.path(loaded.tracker.keys))
    if as_json:
        shell.print_json(rows)
        return
    shell.out.print("key  state", highlight=False)
    for row in rows:
        shell.out.print(f"{row.id:>3}  {'signs' if row.signs else 'verifies'}", highlight=False)


@app.command("add")
def add(
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    sign: Annotated[bool, typer.Option("--sign", help="Let it sign at once: for a single host.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new key that verifies; `mtad keys sign` lets it sign once every host knows it."""
    loaded = load_config(config)
    made = add_key(loaded.path(loaded.tracker.keys), signs=sign)
    then = "reload mtad" if sign else f"{_NEXT}; then `mtad keys sign {made.id}`, and {_NEXT} again"
    _tell(made, then, as_json=as_json)


@app.command("sign")
def sign(
    key_id: Annotated[int, typer.Argument(metavar="ID", help="As `mtad keys list` shows it.")],
    config: ConfigOption = DEFAULT_CONFIG,
    *,
    as_json: JsonOption = False,
) -> None:
    """Let a key sign from now on; the others go on verifying."""
    loaded = load_config(config)
    _tell(sign_with_key(loaded.path(loaded.tracker.keys), key_id), _NEXT, as_json=as_json)


def _tell(key: TrackingKey, then: str, *, as_json: bool) -> None:
    if as_json:
        shell.print_json(key)
    else:
        shell.out.print(f"key {key.id} {'signs' if key.signs else 'verifies'}; {then}", soft_wrap=True, highlight=False)
