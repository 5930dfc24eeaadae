"""What a worker tells Prometheus and load balancers of itself."""

import re
from pathlib import Path

import aiohttp
import pytest

from mtad.base.errors import Unavailable
from mtad.lab.installation import free_port
from mtad.ops.disk import Disks
from mtad.ops.exporter import exporting


@pytest.mark.parametrize(
    ("begun", "least", "status", "says"),
    [
        (True, 0, 200, "ok"),
        (False, 0, 503, "not ready: the worker has not begun"),
        (True, 101, 503, "% of the disk of state is free, less than metrics.least_free_percent"),
    ],
)
async def test_a_worker_is_healthy_when_it_has_begun_and_its_disks_have_room(
    tmp_path: Path, begun: bool, least: int, status: int, says: str
) -> None:
    port = free_port()
    disks = Disks({"gone": tmp_path / "gone", "state": tmp_path}, least)
    url = f"http://127.0.0.1:{port}"
    async with exporting(f"127.0.0.1:{port - 1}", 1, lambda: begun, disks), aiohttp.ClientSession() as http:
        async with http.get(f"{url}/healthz") as answer:
            assert answer.status == status
            assert (await answer.text()).endswith(f"{says}\n")
        async with http.get(f"{url}/metrics") as answer:
            told = await answer.text()

    (free,) = re.findall(r'^mtad_disk_free_ratio\{of="state"\} (.*)$', told, re.MULTILINE)
    assert 0 < float(free) < 1
    assert 'of="gone"' not in told


async def test_a_port_that_is_taken_is_named() -> None:
    port = free_port()
    disks = Disks({}, 0)
    async with exporting(f"127.0.0.1:{port}", 0, lambda: True, disks):
        with pytest.raises(Unavailable, match=f"metrics.listen: 127.0.0.1:{port}: "):
            async with exporting(f"127.0.0.1:{port}", 0, lambda: True, disks):
                pass
