"""FILE.rejects.csv: what was not taken from FILE, with line and reason.

Written beside the file in two steps, so that it appears only when the import that
it tells of is committed, and then whole: `stage` before the commit, `publish` after.
"""

import csv
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from mtad.audience.rows import Rejected
from mtad.base.errors import InputError


class RejectsFile:
    """The rejects of one file; `path` is where they will stand.

    A context manager: on leaving, what was staged and not published is gone.
    """

    def __init__(self, source: Path) -> None:
        self.path = source.with_name(f"{source.name.removesuffix('.csv')}.rejects.csv")
        self._staged: Path | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._discard()

    def stage(self, rejected: Sequence[Rejected]) -> None:
        """Write them durably under another name; InputError when the folder cannot be written."""
        self._discard()
        if not rejected:
            return
        try:
            # Mode 600: the file holds addresses.
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
            self._staged = Path(name)
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("line", "email", "reason"))
                writer.writerows((bad.line, bad.email, bad.reason) for bad in sorted(rejected, key=_place))
                file.flush()
                os.fsync(handle)
        except OSError as error:
            self._discard()
            raise InputError(f"{self.path}: cannot be written: {(error.strerror or str(error)).lower()}") from None

    def publish(self) -> Path | None:
        """Put what was staged in its place, or take an old file away when there is nothing."""
        if self._staged is None:
            self.path.unlink(missing_ok=True)
            return None
        self._staged.replace(self.path)
        self._staged = None
        return self.path

    def _discard(self) -> None:
        if self._staged is not None:
            self._staged.unlink(missing_ok=True)
            self._staged = None


def _place(bad: Rejected) -> tuple[int, str]:
    return bad.line, bad.reason
