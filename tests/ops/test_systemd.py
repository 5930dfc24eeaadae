"""The unit files and what systemd thinks of them."""

import shutil
import subprocess
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"


def test_the_unit_agrees_with_the_program() -> None:
    service = (UNITS / "mtad.service").read_text()

    assert "Type=notify" in service
    assert "RestartPreventExitStatus=78" in service
    assert "FileDescriptorName=tracker" in (UNITS / "mtad.socket").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_what_is_left_exposed_is_inherent() -> None:
    # 1.1 when written: IP sockets, Unix sockets, the host's network, no list of addresses.
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=15", UNITS / "mtad.service"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
