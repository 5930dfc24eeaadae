"""`mtad init`: a configuration and its keys in a folder that has neither. Nothing is ever overwritten."""

import os
import secrets
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from mtad.base.address import normal_domain
from mtad.base.config import load_config
from mtad.base.errors import InputError, Problem
from mtad.dkim.keys import dns_record, new_key, read_key
from mtad.ops.records import Record, records_to_publish, reverse_reminder


class Installation(msgspec.Struct, frozen=True):
    """What was made, and what is left to do."""

    config: Path
    files: list[Path]
    records: list[Record]
    reminder: str


def install(folder: Path, domain: str, selector: str) -> Installation:
    """Write mtad.toml, a DKIM key, the tracking key and the key of the suppression hashes.

    InputError when the domain is none or when one of the files is there: then
    nothing is written. The configuration comes last, so a folder that has one is whole.
    """
    try:
        domain = normal_domain(domain)
    except ValueError as error:
        raise InputError(f"--domain: {error}") from None
    keys = folder / "keys"
    dkim = keys / f"dkim-{selector}.pem"
    config = folder / "mtad.toml"
    template = Path(__file__).with_name("mtad.toml").read_text(encoding="utf-8")
    contents = {
        dkim: new_key(),
        keys / "tracking.keys": f"1:{secrets.token_hex(32)}\n".encode(),
        config: template.replace("@DOMAIN@", domain).replace("@SELECTOR@", selector).encode(),
    }
    if found := [path for path in contents if path.exists()]:
        raise InputError(f"{found[0]}: is there already; nothing was written")
    try:
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, content in contents.items():
            _write_new(path, content, 0o644 if path == config else 0o600)
    except OSError as error:
        raise Problem(f"{error.filename}: {error.strerror}") from None
    made = load_config(config)
    records = records_to_publish(
        domain,
        hostname=made.hostname,
        return_path_domain=made.return_path_domain,
        tracker_host=urlsplit(made.tracker_url).netloc,
        selector=selector,
        dkim_record=dns_record(read_key(dkim)),
    )
    return Installation(config, list(contents), records, reverse_reminder(made.hostname))


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Secrets are never readable to others, not even for a moment."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
