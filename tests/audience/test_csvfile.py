"""Bytes → rows: encodings, delimiters, line numbers, and what is refused."""

import csv
import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.audience.csvfile import DELIMITERS, MAX_LINE, CsvFile
from mtad.base.errors import InputError

Written = Callable[[bytes], Path]
WANTED = ("email",)
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@given(
    st.lists(st.tuples(CELL, CELL), max_size=6),
    st.sampled_from(DELIMITERS),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_rows_come_back_as_they_were_written(
    rows: list[tuple[str, str]], delimiter: str, encoding: str, line_end: str
) -> None:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    writer.writerows([("name", "email"), *rows])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.csv"
        path.write_bytes(text.getvalue().encode(encoding))
        file = CsvFile(path, wanted=WANTED)

        assert (file.header, file.delimiter) == (["name", "email"], delimiter)
        assert [tuple(cells) for _, cells in file.rows()] == rows


def test_line_is_where_the_row_begins(written: Written) -> None:
    path = written(b'email,note\na@x.test,"two\nlines"\n\nb@x.test,one\r\nc@x.test,"a\r\nb\r\nc"\nd@x.test,')

    assert [line for line, _ in CsvFile(path, wanted=WANTED).rows()] == [2, 5, 6, 9]


def test_delimiter_is_the_one_that_shows_the_wanted_column(written: Written) -> None:
    assert CsvFile(written(b"a,b,c,d;email\n"), wanted=WANTED).delimiter == ";"
    assert CsvFile(written(b'"email";"a,b,c"\n'), wanted=WANTED).header == ["email", "a,b,c"]
    assert CsvFile(written(b"email\n"), wanted=WANTED).delimiter == ","


@pytest.mark.parametrize(
    ("content", "encoding"),
    [("Größe", "cp1252"), ("Größe", "latin-1"), ("Größe", "utf-16-le"), ("名前", "shift_jis"), ("Größe", "mac-roman")],
)
def test_other_encodings_are_read_when_named(written: Written, content: str, encoding: str) -> None:
    path = written(f"email,{content}\n".encode(encoding))

    assert CsvFile(path, encoding=encoding, wanted=WANTED).header == ["email", content]


@pytest.mark.parametrize(
    ("content", "offset", "name"),
    [
        (b"email,name\na@x.test,M\xfcller\n", 21, "UTF-8"),
        (b"\xef\xbb\xbfemail\n\xff\n", 9, "UTF-8"),
        (b"email\n" + b"x\n" * 200_000 + b"\xc3", 400_006, "UTF-8"),
        (b"\xff\xfee\0m\0a\0i\0l\0\n\0a", 14, "UTF-16"),
        (b"\xff\xfee\0m\0a\0i\0l\0\n\0\x00\xdcx\0", 14, "UTF-16"),
    ],
)
def test_wrong_encoding_is_refused_with_the_byte_and_the_option(
    written: Written, content: bytes, offset: int, name: str
) -> None:
    with pytest.raises(InputError) as refused:
        list(CsvFile(written(content), wanted=WANTED).rows())

    assert str(refused.value).endswith(
        f"file.csv: byte {offset} is not {name}; name the encoding, e.g. --encoding cp1252"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"\n\r\n", "the file is empty"),
        (b'email,name\nb@x.test,B\na@x.test,"A\nc@x.test,C\n', 'line 3: a quote (") is opened and never closed'),
        (b'email,name\na@x.test,"A" B\n', "line 2: ',' expected after '\"'"),
        (
            b'email\n"' + b"x\n" * MAX_LINE,
            f'line 2: a quote (") is opened and not closed within {MAX_LINE:,} characters',
        ),
        (b"email,name\na@x.test,\0\n", "line 2 has a NUL character; is it a text file?"),
        (b"email\n\n" + b"x" * (MAX_LINE + 1), f"line 3 is longer than {MAX_LINE:,} characters"),
    ],
)
def test_broken_file_is_one_line_that_names_the_place(written: Written, content: bytes, said: str) -> None:
    path = written(content)

    with pytest.raises(InputError) as refused:
        list(CsvFile(path, wanted=WANTED).rows())

    assert str(refused.value) == f"{path}: {said}"


def test_encoding_that_is_none_or_contradicts_the_file_is_refused(written: Written) -> None:
    with pytest.raises(InputError, match="--encoding klingon: no such encoding"):
        CsvFile(written(b"email\n"), encoding="klingon", wanted=WANTED)
    with pytest.raises(InputError, match="--encoding hex: no such encoding"):
        CsvFile(written(b"email\n"), encoding="hex", wanted=WANTED)
    with pytest.raises(InputError, match="begins with the mark of UTF-8, --encoding says latin-1"):
        CsvFile(written(b"\xef\xbb\xbfemail\n"), encoding="latin-1", wanted=WANTED)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: no such file or directory"):
        CsvFile(tmp_path / "none.csv", wanted=WANTED)
