"""`mtad automation`. What rules have done is shown by `mtad limits` and `mtad suspensions`, and undone there."""

import re
from typing import Annotated

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from mtad.base.automation import Rule, limits, rules_in_force
from mtad.base.config import load_config
from mtad.base.errors import InputError
from mtad.base.shape import known_providers
from mtad.cli import shell
from mtad.outcome.rules import read
from mtad.smtp.results import Refused, Stage

_REPLY = re.compile(r"([45]\d\d)[ -]?(?:([45]\.\d{1,3}\.\d{1,3})(?: |$))?.*", re.DOTALL)

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


@app.command("reply")
def reply(
    text: Annotated[str, typer.Argument(help='What a server said, codes first: "550 5.7.1 …".')],
    *,
    stage: Annotated[str, typer.Option(help="To what: MAIL, RCPT, DATA; DOT, the final dot; BANNER, EHLO.")] = "RCPT",
    provider: Annotated[str, typer.Option(help="Who said it, e.g. yahoo.")] = "",
    config: shell.ConfigOption = shell.DEFAULT_CONFIG,
    as_json: shell.JsonOption = False,
) -> None:
    """What a refusal means, and which rules count it, [[automation.reply]] included; needs no running server."""
    loaded = load_config(config)
    match = _REPLY.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{text!r} is no refusal; write 4xx or 5xx, an enhanced code if there is one, and the text")
    if stage.upper() not in Stage.__members__:
        raise InputError(f"--stage: {stage!r} is none of {', '.join(Stage.__members__)}")
    refused = Refused(Stage[stage.upper()], int(match[1]), match[2] or "", match[0], "")
    meant = read(loaded.automation, refused, provider)
    if as_json:
        shell.print_json(meant)
        return
    for name, value in msgspec.structs.asdict(meant).items():
        said = (", ".join(value) or "none") if isinstance(value, list) else value
        shell.out.print(f"{name:<9}{said}", markup=False, highlight=False)


def _effect(rule: Rule) -> str:
    effects = [f"suspend {rule.suspend}"] if rule.suspend else []
    return ", ".join(effects + [f"{knob} {value}" for knob, value in limits(rule).items()])
