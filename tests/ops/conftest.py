"""What the tests of operation share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder whose parents everybody may enter: where root's Postgres, who is somebody else, can work."""
    with tempfile.TemporaryDirectory(prefix="mtad-ops-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        yield Path(made)
