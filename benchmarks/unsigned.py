"""`mtad run` whose workers do not sign: what all but the signature costs. For `--dkim none` only.

mtad itself never sends bulk mail without a signature, so this stands outside of it.
"""

import argparse
import sys
from pathlib import Path

from mtad import worker
from mtad.base.config import load_config
from mtad.base.log import set_up_logging
from mtad.dkim.sign import Signer
from mtad.ops.daemon import ROLES, run_daemon


def _no_signature(*_: object, **named: object) -> bytes:
    del named
    return b""


def main() -> None:
    """As supervisor with `--config FILE`; as its worker with `worker` and what the supervisor adds."""
    if sys.argv[1:2] == ["worker"]:
        del sys.argv[1]
        Signer.sign = _no_signature  # type: ignore[method-assign]
        worker.main()
        return
    parser = argparse.ArgumentParser(prog="benchmarks.unsigned")
    parser.add_argument("--config", type=Path, required=True)
    path = parser.parse_args().config.resolve()
    config = load_config(path)
    set_up_logging(config.log_format)
    command = [sys.executable, "-m", "benchmarks.unsigned", "worker", f"--config={path}"]
    sys.exit(run_daemon(config, path, workers=0, roles=ROLES, command=command))


if __name__ == "__main__":
    main()
