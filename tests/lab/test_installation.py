"""The demo's installation: a folder, a configuration, and the way to its commands."""

import sys
import tempfile
from pathlib import Path

import pytest

from mtad.base.config import Config
from mtad.base.errors import Problem
from mtad.lab.installation import FILES, SHOP, Installation, demo_folder, fdatasync_ms, next_commands

WRITTEN_BY_INIT = """
domain = "fernweh.example"
[[dkim]]
domain = "fernweh.example"
selector = "s1"
key = "keys/dkim.pem"
"""


@pytest.fixture
def place(tmp_path: Path) -> Installation:
    made = Installation(tmp_path)
    made.config_path.write_text(WRITTEN_BY_INIT)
    return made


def test_every_domain_is_routed_to_its_port_and_the_signing_key_is_kept(place: Installation) -> None:
    place.route({"a.example": 2501, "b.example": 2502}, tracker_port=8025, rate=40)

    config: Config = place.config
    assert [(route.domain, route.host, route.port) for route in config.route] == [
        ("a.example", "127.0.0.1", 2501),
        ("b.example", "127.0.0.1", 2502),
    ]
    assert config.tracker_url == f"http://{config.tracker.listen}" == "http://127.0.0.1:8025"
    assert config.dkim[0].selector == "s1"
    assert config.shape.max_message_rate == "40/s"


def test_links_to_the_shop_lead_to_the_viewers_own_machine(place: Installation) -> None:
    place.copy_files("http://127.0.0.1:1/shop/")
    copied = {path.relative_to(place.folder) for path in place.folder.rglob("*.html")}

    assert {Path("trial/message.html"), Path("december/message.html")} <= copied
    assert Path("mailbox.html") not in copied
    assert SHOP in (FILES / "trial" / "message.html").read_text()
    assert SHOP not in (place.folder / "trial" / "message.html").read_text()


async def test_a_command_that_fails_is_told_in_its_own_words(place: Installation) -> None:
    with pytest.raises(Problem, match=r"^mtad init .*: --domain: the domain .* is not valid$"):
        await place.command("init", "--domain", "-", "--dir", str(place.folder / "new"))


async def test_a_usage_error_is_told_without_its_box(place: Installation) -> None:
    with pytest.raises(Problem, match=r"mtad init: Missing option '--domain'"):
        await place.command("init")


def test_the_folder_of_an_earlier_demo_is_taken_away_unless_it_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    over, lock_of_over = demo_folder()
    lock_of_over.close()
    in_use, lock_of_used = demo_folder()
    fresh, lock_of_fresh = demo_folder()
    with lock_of_used, lock_of_fresh:
        left = set(tmp_path.iterdir())

    assert left == {in_use, fresh}
    assert over not in left


@pytest.mark.parametrize("typed", ["/some/venv/bin/python", ".venv/bin/mtad"])
def test_the_commands_to_type_next_name_program_and_configuration(
    place: Installation, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.setattr(sys, "argv", [typed])
    monkeypatch.setenv("PATH", "/nowhere")
    (command,) = next_commands(place, "audit news")

    program = ".venv/bin/mtad" if typed.endswith("mtad") else f"{sys.executable} -m mtad"
    assert command == f"{program} audit news -c {place.config_path}"


def test_the_disk_takes_some_time(tmp_path: Path) -> None:
    assert 0 < fdatasync_ms(tmp_path) < 10_000
