"""`mtad automation rules` shows what applies."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mtad.base.automation import shipped_rules
from mtad.cli.main import app


@pytest.mark.parametrize(("arguments", "seen"), [([], len(shipped_rules())), (["--provider", "gmx"], 5)])
def test_the_rules_in_force_are_shown(tmp_path: Path, arguments: list[str], seen: int) -> None:
    config = tmp_path / "mtad.toml"
    config.write_text(
        'domain = "example.com"\n[automation]\noff = ["blocked"]\n[[automation.rule]]\n'
        'name = "mine"\nregex = "x"\nsuspend = "lane"\nduration = "1h"\n'
    )
    result = CliRunner().invoke(app, ["automation", "rules", "--json", "--config", str(config), *arguments])
    names = [rule["name"] for rule in json.loads(result.stdout)]

    assert result.exit_code == 0
    assert names[0] == "mine"
    assert "blocked" not in names
    assert len(names) == seen


def test_an_expression_is_shown_as_it_is_matched(tmp_path: Path) -> None:
    config = tmp_path / "mtad.toml"
    config.write_text('domain = "example.com"\n')

    said = CliRunner().invoke(app, ["automation", "rules", "--provider", "yahoo", "--config", str(config)]).stdout

    assert r"\[TS0[23]\]" in said


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (
            ["421 4.7.0 [TSS04] deferred", "--provider", "yahoo"],
            ("rate_limited", "SLOW", ["rate-limited", "yahoo-complaints"]),
        ),
        (["550 5.2.1 Casella sospesa"], ("inactive_mailbox", "SUPPRESS", [])),
        (["550 5.2.1 Casella sospesa", "--stage", "mail"], ("sender_rejected", "BOUNCE", [])),
    ],
)
def test_what_a_reply_means_is_told_with_the_rules_that_count_it(
    tmp_path: Path, arguments: list[str], meant: tuple[str, str, list[str]]
) -> None:
    config = tmp_path / "mtad.toml"
    config.write_text(
        'domain = "example.com"\n[[automation.reply]]\nregex = "casella sospesa"\nmeans = "inactive_mailbox"\n'
    )

    result = CliRunner().invoke(app, ["automation", "reply", "--json", "--config", str(config), *arguments])
    told = json.loads(result.stdout)

    assert (told["means"], told["action"].upper(), told["rules"]) == meant


@pytest.mark.parametrize("arguments", [["250 ok"], ["user unknown"], ["550 no", "--stage", "HELP"]])
def test_what_is_no_refusal_is_an_error(tmp_path: Path, arguments: list[str]) -> None:
    config = tmp_path / "mtad.toml"
    config.write_text('domain = "example.com"\n')

    assert CliRunner().invoke(app, ["automation", "reply", "--config", str(config), *arguments]).exit_code != 0
