"""`mtad run` whose workers lack something: a signature (what does all else cost?), or the fence (does its test fail?).

mtad itself never sends bulk mail without either, so this stands outside of it.
"""

import argparse
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mtad import worker
from mtad.base.config import load_config
from mtad.base.log import set_up_logging
from mtad.dkim.sign import Draft, Signer
from mtad.ops.daemon import ROLES, run_daemon
from mtad.queue import store


def _no_signature(*_: object, **named: object) -> Draft:
    del named
    return Draft([], [], b"")


def _without_signature() -> None:
    Signer.draft = _no_signature  # type: ignore[method-assign]


def _without_fence() -> None:
    """Begin locks as ever, and does not compare the versions by which the verdict was made."""
    comparison = r"g\.version = o\.gate_version|p\.fence = o\.fence|e\.version = o\.epoch"
    begin, compared = re.subn(comparison, "true", store.SQL["begin"])
    assert compared == 3, "begin is not written as it was"
    store.SQL["begin"] = begin


LACKS: Mapping[str, Callable[[], None]] = {"signature": _without_signature, "fence": _without_fence}


def main() -> None:
    """What lacks, then: as supervisor `--config FILE`; as its worker `worker` and what the supervisor adds."""
    lacks = sys.argv.pop(1)
    if sys.argv[1:2] == ["worker"]:
        del sys.argv[1]
        LACKS[lacks]()
        worker.main()
        return
    parser = argparse.ArgumentParser(prog="benchmarks.lacking")
    parser.add_argument("--config", type=Path, required=True)
    path = parser.parse_args().config.resolve()
    config = load_config(path)
    set_up_logging(config.log_format)
    command = [sys.executable, "-m", "benchmarks.lacking", lacks, "worker", f"--config={path}"]
    sys.exit(run_daemon(config, path, workers=0, roles=ROLES, command=command))


if __name__ == "__main__":
    main()
