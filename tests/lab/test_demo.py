"""The demo itself, small: everything real, in its own processes."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_the_demo_ends_with_books_that_agree(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mtad", "demo", "--contacts", "200", "--seed", "3", "--json"],
        env={**os.environ, "TMPDIR": str(tmp_path)}, stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr.decode()[-4000:]
    result = json.loads(done.stdout)
    assert result["disagreements"] == []
    assert result["copies"] == result["delivered"] + result["duplicates"] + result["arrived_in_doubt"]
    assert result["signed"] == result["one_click"] == result["copies"]
    assert b"kill -9." in done.stderr
    assert b"The cool-down is over." in done.stderr
    assert result["mails"] < result["everybody"]["mails"]
    assert 0 < result["read"] <= result["everybody"]["read"]
