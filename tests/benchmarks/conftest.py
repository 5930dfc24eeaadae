import pytest

from mtad.lab.installation import Installation
from tests.e2e.command import asked_here


@pytest.fixture(autouse=True)
def _commands_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toy runs ask mtad in this process; the run of all peers starts a benchmark whose commands are processes."""
    monkeypatch.setattr(Installation, "command", lambda place, *arguments: asked_here(place.folder, *arguments))
