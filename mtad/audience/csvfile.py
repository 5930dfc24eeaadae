"""A file of comma-separated values, RFC 4180, as rows with their line numbers.

Nothing is guessed silently. UTF-8 (with or without a byte order mark) and UTF-16
with one are recognised, for both can be told for sure; everything else needs to
be named. The delimiter is the one of comma, semicolon and tab with which the
header has the wanted column. What is broken is refused as a whole, with the line.
"""

import codecs
import csv
import itertools
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from mtad.base.errors import InputError

DELIMITERS = (",", ";", "\t")

# Neither a line nor a cell (with its quoted line ends; the default of the module
# csv) may be longer, or a quote that is never closed would read the rest of the
# file into memory.
MAX_LINE = 128 * 1024

# Byte order mark, codec, name.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)

# Codecs of Python that are not encodings of files, or yield half characters.
_NOT_OF_FILES = frozenset({"idna", "punycode", "raw-unicode-escape", "unicode-escape", "utf-7", "undefined"})

Record = tuple[int, list[str]]  # the line on which it begins, its cells


class CsvFile:
    """One file, read from its beginning by every `rows()`; InputError in one line says what is wrong with it."""

    def __init__(self, path: Path, *, encoding: str = "", wanted: Sequence[str]) -> None:
        """Look at the byte order mark and the header; one of the columns `wanted` (lower case) tells the delimiter."""
        self.path = path
        self._encoding, self._named = _encoding(path, encoding)
        self.delimiter, self.header_line, self.header = self._find_header(wanted)

    def rows(self) -> Iterator[Record]:
        """The records after the header; blank lines are none."""
        records = self._records(self.delimiter)
        next(records, None)
        return records

    def _find_header(self, wanted: Sequence[str]) -> tuple[str, int, list[str]]:
        readings: list[tuple[bool, int, str, Record]] = []
        failure = InputError(f"{self.path}: the file is empty")
        for delimiter in DELIMITERS:
            try:
                record = next(self._records(delimiter), None)
            except InputError as error:
                failure = error
                continue
            if record:
                found = any(cell.strip().lower() in wanted for cell in record[1])
                readings.append((found, len(record[1]), delimiter, record))
        if not readings:
            raise failure
        _, _, delimiter, (line, header) = max(readings, key=lambda reading: reading[:2])
        return delimiter, line, header

    def _records(self, delimiter: str) -> Iterator[Record]:
        begins = 1
        lines = self._lines()
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                if cells:
                    yield begins, cells
                begins = reader.line_num + 1
        except csv.Error as error:
            why = str(error)
            if "unexpected end" in why:
                why = 'a quote (") is opened and never closed'
            elif "field limit" in why:
                why = f'a quote (") is opened and not closed within {MAX_LINE:,} characters'
            raise InputError(f"{self.path}: line {begins}: {why}") from None
        except UnicodeDecodeError:
            raise self._not_decoded() from None
        finally:
            lines.close()  # now, and not when an error that was kept lets go of it

    def _lines(self) -> Generator[str, None, None]:
        try:
            with self.path.open(encoding=self._encoding, newline="") as file:
                number = 0
                while line := file.readline(MAX_LINE + 1):
                    number += 1
                    if len(line) > MAX_LINE:
                        raise InputError(f"{self.path}: line {number} is longer than {MAX_LINE:,} characters")
                    if "\0" in line:
                        raise InputError(f"{self.path}: line {number} has a NUL character; is it a text file?")
                    yield line
        except OSError as error:
            raise _unreadable(self.path, error) from None

    def _not_decoded(self) -> InputError:
        """Where the file stops being what it should be. Read again, because only then is it needed."""
        # The codec of marked files counts from behind the mark, the plain one from the file's beginning.
        decoder = codecs.getincrementaldecoder(self._encoding.removesuffix("-sig"))()
        read = 0
        with self.path.open("rb") as file:
            for chunk in itertools.chain(iter(lambda: file.read(MAX_LINE), b""), [b""]):
                held = len(decoder.getstate()[0])
                try:
                    decoder.decode(chunk, final=not chunk)
                except UnicodeDecodeError as error:
                    read += error.start - held
                    break
                read += len(chunk)
        return InputError(f"{self.path}: byte {read} is not {self._named}; name the encoding, e.g. --encoding cp1252")


def _encoding(path: Path, named: str) -> tuple[str, str]:
    """What to decode with, and what to call it."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise _unreadable(path, error) from None
    mark = next(((codec, name) for mark, codec, name in _MARKS if head.startswith(mark)), None)
    if not named:
        return mark or ("utf-8", "UTF-8")
    try:
        codec = codecs.lookup(named).name
        "".encode(codec)
    except (LookupError, ValueError):
        codec = ""
    if not codec or codec in _NOT_OF_FILES:
        raise InputError(f"--encoding {named}: no such encoding; write cp1252, latin-1, utf-16-le, …")
    if mark and not codec.startswith(mark[1].lower()):
        raise InputError(f"{path}: begins with the mark of {mark[1]}, --encoding says {named}")
    return mark or (codec, named)


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: {(error.strerror or str(error)).lower()}")
