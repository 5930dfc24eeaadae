"""`mtad automation rules`. What rules have done is shown by `mtad limits` and `mtad suspensions`, and undone there."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from mtad.base.automation import Rule, limits, rules_in_force
from mtad.base.config import load_config
from mtad.base.errors import InputError
from mtad.base.shape import known_providers
from mtad.cli import shell

app = typer.Typer(help="Rules on replies.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Rules on replies."""


@app.command("rules")
def rules(
    provider: Annotated[str, typer.Option(help="Only those for this one, e.g. yahoo, and for everybody.")] = "",
    *,
    config: shell.ConfigOption = shell.DEFAULT_CONFIG,
    as_json: shell.JsonOption = False,
) -> None:
    """What receivers may say, how often, and what follows; needs no running server."""
    loaded = load_config(config)
    known = known_providers(loaded.shape)
    if provider and provider not in known:
        raise InputError(f"--provider: {provider!r} is none of {', '.join(sorted(known))}")
    found = [rule for rule in rules_in_force(loaded.automation) if not provider or rule.provider in ("", provider)]
    if as_json:
        shell.print_json(found)
        return
    table = Table("rule", "provider", "says", "often", "then", "for", box=None, pad_edge=False)
    for rule in found:
        says = rule.regex or ", ".join(rule.category)
        table.add_row(rule.name, rule.provider or "all", Text(says), rule.threshold, _effect(rule), rule.duration)
    shell.out.print(table)


def _effect(rule: Rule) -> str:
    effects = [f"suspend {rule.suspend}"] if rule.suspend else []
    return ", ".join(effects + [f"{knob} {value}" for knob, value in limits(rule).items()])
