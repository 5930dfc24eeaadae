"""Every key is read before anything starts."""

from pathlib import Path

import pytest

from mtad.base.config import load_config
from mtad.base.errors import ConfigError
from mtad.ops.install import install
from mtad.ops.keyfiles import require_keys


@pytest.mark.parametrize("source", ["", "second"])
def test_a_key_that_is_not_there_is_found_whichever_source_it_is_for(tmp_path: Path, source: str) -> None:
    config = install(tmp_path, "example.com", "m1").config
    with config.open("a", encoding="utf-8") as file:
        file.write('\n[[source]]\nname = "second"\n')
        file.write(f'[[dkim]]\ndomain = "example.com"\nselector = "m2"\nkey = "gone.pem"\nsource = "{source}"\n')

    with pytest.raises(ConfigError, match=r"gone\.pem: DKIM key: No such file"):
        require_keys(load_config(config))
