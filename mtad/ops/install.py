"""`mtad init`: a configuration and its keys in a folder that has neither. Nothing is ever overwritten."""

import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from mtad.base.address import normal_domain
from mtad.base.config import load_config
from mtad.base.errors import InputError, Problem
from mtad.dkim.keys import dns_record, new_ed25519_key, new_key, read_key
from mtad.ops.records import Record, records_to_publish, reverse_reminder

# What `mtad init --dkim` takes: how a key is made, and what its selector ends in.
KEYS = {
    "rsa2048": [(new_key, "")],
    "ed25519": [(new_ed25519_key, "e")],
    "both": [(new_key, ""), (new_ed25519_key, "e")],
}

_DKIM = """\
[[dkim]]
domain = "{domain}"
selector = "{selector}"
key = "keys/dkim-{selector}.pem"
"""


class Installation(msgspec.Struct, frozen=True):
    """What was made, and what is left to do."""

    config: Path
    files: list[Path]
    records: list[Record]
    reminder: str


def install(folder: Path, domain: str, selector: str, *, dkim: str = "rsa2048") -> Installation:
    """Write mtad.toml, the DKIM keys that `dkim` of KEYS names, the tracking key and that of suppressions.

    InputError when the domain is none or when one of the files is there: then
    nothing is written. The configuration comes last, so a folder that has one is whole.
    """
    try:
        domain = normal_domain(domain)
    except ValueError as error:
        raise InputError(f"--domain: {error}") from None
    keys = folder / "keys"
    signing = {selector + end: (keys / f"dkim-{selector}{end}.pem", make()) for make, end in KEYS[dkim]}
    config = folder / "mtad.toml"
    template = Path(__file__).with_name("mtad.toml").read_text(encoding="utf-8")
    tables = "\n".join(_DKIM.format(domain=domain, selector=name) for name in signing)
    contents = {
        **dict(signing.values()),
        keys / "tracking.keys": f"1:{secrets.token_hex(32)}\n".encode(),
        keys / "suppression.key": f"{secrets.token_hex(32)}\n".encode(),
        config: template.replace("@DOMAIN@", domain).replace("@DKIM@", tables).encode(),
    }
    if found := [path for path in contents if path.exists()]:
        raise InputError(f"{found[0]}: is there already; nothing was written")
    try:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, content in contents.items():
            write_new(path, content, 0o644 if path == config else 0o600)
    except OSError as error:
        raise Problem(f"{error.filename}: {error.strerror}") from None
    made = load_config(config)
    records = records_to_publish(
        domain,
        hostname=made.hostname,
        return_path_domain=made.return_path_domain,
        tracker_host=urlsplit(made.tracker_url).netloc,
        dkim={name: dns_record(read_key(path)) for name, (path, _) in signing.items()},
    )
    return Installation(config, list(contents), records, reverse_reminder(made.hostname))


def write_new(path: Path, content: bytes, mode: int) -> None:
    """A file that was not there, on disk when this returns; secrets are never readable to others, not for a moment."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
