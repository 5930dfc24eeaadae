"""Every key is read before anything starts."""

from pathlib import Path

import pytest

from mtad.base.config import load_config
from mtad.base.errors import ConfigError
from mtad.ops.install import install
from mtad.ops.keyfiles import read_networks, require_keys


@pytest.mark.parametrize("source", ["", "second"])
def test_a_key_that_is_not_there_is_found_whichever_source_it_is_for(tmp_path: Path, source: str) -> None:
    config = install(tmp_path, "example.com", "m1").config
    with config.open("a", encoding="utf-8") as file:
        file.write('\n[[source]]\nname = "second"\n')
        file.write(f'[[dkim]]\ndomain = "example.com"\nselector = "m2"\nkey = "gone.pem"\nsource = "{source}"\n')

    with pytest.raises(ConfigError, match=r"gone\.pem: DKIM key: No such file"):
        require_keys(load_config(config))


@pytest.mark.parametrize(
    ("key", "content", "said"),
    [
        ("scanner_networks", "203.0.113.0/24\n", "line 1: write 203.0.113.0/24 and clicks or all"),
        ("trusted_networks", "203.0.113.9/32 us\n", "line 1: 203.0.113.9/32: hits keep /24"),
        ("scanner_networks", None, "tracker.scanner_networks: .*networks.txt: No such file"),
    ],
)
def test_a_bad_file_of_networks_stops_the_start(tmp_path: Path, key: str, content: str | None, said: str) -> None:
    path = install(tmp_path, "example.com", "m1").config
    path.write_text(path.read_text().replace("[tracker]\n", f'[tracker]\n{key} = "networks.txt"\n'))
    if content is not None:
        (tmp_path / "networks.txt").write_text(content)

    with pytest.raises(ConfigError, match=said):
        require_keys(load_config(path))


def test_networks_are_read_as_they_stand_in_the_files(tmp_path: Path) -> None:
    path = install(tmp_path, "example.com", "m1").config
    path.write_text(path.read_text().replace("[tracker]\n", '[tracker]\nscanner_networks = "networks.txt"\n'))
    (tmp_path / "networks.txt").write_text("203.0.113.0/24 clicks Acme\n")

    networks = read_networks(load_config(path))

    assert networks.known("203.0.113.0/24").clicks == "Acme"
    assert not networks.known("127.0.0.0/24").tells  # our own proxy
