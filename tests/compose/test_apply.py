"""Files into the database: as a whole or not at all, each refusal one clear line."""

import asyncio
import re
from pathlib import Path

import pytest

from mtad.base.db import Pool
from mtad.base.errors import InputError
from mtad.compose.apply import apply_program, apply_stream
from tests.compose.conftest import HTML, PROGRAM, STREAM, Writer


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


async def counts(pool: Pool) -> tuple[int, ...]:
    tables = ("stream_version", "program", "program_version", "message", "message_link")
    return tuple([await pool.fetchval(f"select count(*) from {table}") for table in tables])


async def refusal(pool: Pool, path: Path) -> str:
    """The one line that applying this program is refused with; nothing may have changed."""
    before = await counts(pool)
    with pytest.raises(InputError) as caught:
        await apply_program(pool, path, "test")
    assert await counts(pool) == before
    text = str(caught.value)
    assert "\n" not in text
    return text


async def test_a_stream_applied_twice_has_one_version(pool: Pool, stream: Path) -> None:
    again = await apply_stream(pool, stream, "test")

    assert (again.did, again.version) == ("unchanged", 1)
    assert await pool.fetchval("select version from epoch") == 1


async def test_a_changed_stream_voids_the_verdicts_made_before(pool: Pool, stream: Path) -> None:
    write(stream, STREAM + "policy = { threshold = 5 }\n")

    changed = await apply_stream(pool, stream, "test")

    assert (changed.did, changed.version) == ("changed", 2)
    assert await pool.fetchval("select version from epoch") == 2
    assert await pool.fetchval("select version from stream") == 2
    assert await pool.fetchval("select count(*) from stream_version") == 2


BAD_STREAMS = [
    ("name = ", "Invalid value"),
    (STREAM.replace('tracking = "full"', ""), "tracking: is missing"),
    (STREAM.replace("imprint", "#"), "imprint: is missing"),
    (STREAM.replace("news@", "nëws@"), "from: "),
    (STREAM + 'list_id = "a b"', "list_id: "),
    (STREAM + 'colour = "red"', "colour"),
]


async def test_a_bad_stream_is_one_clear_line(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"

    for text, clue in BAD_STREAMS:
        write(path, text)
        with pytest.raises(InputError) as caught:
            await apply_stream(pool, path, "test")
        assert str(caught.value).startswith(f"{path}: ")
        assert clue in str(caught.value)
        assert "\n" not in str(caught.value)
    assert await counts(pool) == (0, 0, 0, 0, 0)


async def test_a_program_is_stored_whole(pool: Pool, stream: Path, files: Writer) -> None:
    applied = await apply_program(pool, files(), "test")

    links = await pool.fetch("select position, url from message_link order by id")
    row = await pool.fetchrow("select status::text, class, version, fence from program")
    assert (applied.did, applied.version) == ("created", 1)
    assert row is not None
    assert tuple(row) == ("draft", 2, 1, 1)
    assert [(link[0], link[1]) for link in links[:3]] == [
        (0, ""),
        (1, "https://shop.example/p/{0}?a=1&b=2"),
        (2, "https://example.com/two"),
    ]
    assert len(links) == 6


async def test_utm_parameters_are_part_of_the_stored_links(pool: Pool, stream: Path, files: Writer) -> None:
    path = files()
    text = path.read_text()
    path.write_text('utm = { source = "letter", campaign = "may" }\n' + text)
    await apply_program(pool, path, "test")

    urls = [row[0] for row in await pool.fetch("select url from message_link order by id")]
    assert urls[:3] == [
        "",
        "https://shop.example/p/{0}?a=1&b=2&utm_source=letter&utm_campaign=may",
        "https://example.com/two?utm_source=letter&utm_campaign=may",
    ]
    assert (await apply_program(pool, path, "test")).did == "unchanged"
    path.write_text(text)
    assert (await apply_program(pool, path, "test")).did == "changed"
    path.write_text('utm = { sourcee = "letter" }\n' + text)
    with pytest.raises(InputError, match="utm: unknown key `sourcee`"):
        await apply_program(pool, path, "test")


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("threshold = 1000", "policy.threshold: 1000 cannot be reached in any series of the stream"),
        ('window = "6d"', "policy.window: 6d is longer than the 3d that nudge waits after nudge-1"),
    ],
)
async def test_rules_that_no_series_of_the_stream_can_keep_are_refused(
    pool: Pool, stream: Path, files: Writer, policy: str, says: str
) -> None:
    await apply_program(pool, files(), "test")
    write(stream, STREAM + f"policy = {{ {policy} }}\n")

    with pytest.raises(InputError) as caught:
        await apply_stream(pool, stream, "test")
    assert str(caught.value).startswith(f"{stream}: {says}")
    assert await pool.fetchval("select version from stream") == 1

    await pool.execute("update program set status = 'cancelled'")
    assert (await apply_stream(pool, stream, "test")).did == "changed"
    with pytest.raises(InputError, match=r"leave_on: engaged needs 1000 points|the wait after nudge-1 is 3d, shorter"):
        await apply_program(pool, files(), "test")


async def test_a_program_applied_twice_has_one_version(pool: Pool, stream: Path, files: Writer) -> None:
    await apply_program(pool, files(), "test")
    before = await counts(pool)

    again = await apply_program(pool, files(), "test")

    assert (again.did, again.version) == ("unchanged", 1)
    assert await counts(pool) == before
    assert await pool.fetchval("select fence from program") == 1


async def test_a_changed_draft_gets_a_new_version_and_fence(pool: Pool, stream: Path, files: Writer) -> None:
    changes = [
        {"program": PROGRAM.replace('"3d"', '"4d"')},
        {"subject_txt": "Other"},
        {"message_html": HTML.replace("example.com/two", "example.com/three")},
        {"message_txt": "{{ imprint }} {{ unsubscribe_url }}"},
    ]
    await apply_program(pool, files(), "test")

    done = [await apply_program(pool, files(**change), "test") for change in changes]

    assert [(applied.did, applied.version) for applied in done] == [("changed", version) for version in (2, 3, 4, 5)]
    assert await pool.fetchval("select fence from program") == 5
    assert await pool.fetchval("select count(*) from message where version = 5") == 2


async def test_a_program_that_is_over_stays_as_it_was(pool: Pool, stream: Path, files: Writer) -> None:
    await apply_program(pool, files(), "test")

    for status in ("done", "cancelled"):
        await pool.execute("update program set status = $1::text::program_status", status)
        assert (await apply_program(pool, files(), "test")).did == "unchanged"
        assert f"is {status}" in await refusal(pool, files(subject_txt="Other"))


async def test_a_program_that_has_begun_gets_a_version_of_the_same_sort(
    pool: Pool, stream: Path, files: Writer
) -> None:
    await apply_program(pool, files(), "test")

    for version, status in enumerate(("scheduled", "running", "paused"), 2):
        await pool.execute("update program set status = $1::text::program_status, starts = now()", status)
        assert (await apply_program(pool, files(subject_txt=f"Other {version}"), "test")).version == version
        assert "kind: " in await refusal(pool, files(PROGRAM.replace("series", "reactivation")))
    assert await pool.fetchval("select starts from program") is not None


async def test_two_who_apply_at_once_make_one_program(pool: Pool, stream: Path, files: Writer) -> None:
    path = files()

    done = await asyncio.gather(*(apply_program(pool, path, "test") for _ in range(4)))

    assert sorted(applied.did for applied in done) == ["created", "unchanged", "unchanged", "unchanged"]
    assert await pool.fetchval("select count(*) from program_version") == 1


# One database for all of them: none may change it.
BAD_PROGRAMS: list[tuple[dict[str, str | None], str]] = [
    ({"program": "name = ="}, r"program\.toml: Invalid value \(at line 1"),
    ({"program": PROGRAM.replace("series", "tombola")}, r"program\.toml: kind"),
    ({"program": PROGRAM.replace("sales-de", "sales-fr")}, r"there is no 'sales-fr' \(there is: sales-de\)"),
    ({"program": PROGRAM.replace("nudge-2", "nudge-3")}, r"nudge-3: there is no such folder"),
    ({"program": PROGRAM.replace("[[step]]", "[audience.attributes]\ncity=['X']\n[[step]]", 1)}, "'city'"),
    ({"program": PROGRAM.replace("[[step]]", "[audience.attributes]\nage=['X']\n[[step]]", 1)}, "type number"),
    ({"subject_txt": None}, r"subject\.txt: there is no such file"),
    ({"subject_txt": "a\nb"}, r"subject\.txt: must be one line"),
    ({"message_html": None}, "neither message.html nor message.txt"),
    ({"message_html": HTML + "\n{{ frist_name }}"}, r"message\.html:8: .*'frist_name'; did you mean first_name\?"),
    ({"message_html": HTML + "{{ ''.__class__.__mro__ }}"}, r"message\.html:7: __\w+__ is not allowed"),
    ({"message_html": HTML + "{{ ''['__cl' ~ 'ass__'] }}"}, r"message\.html.* leads out of the sandbox"),
    ({"message_html": HTML + "{% if %}"}, r"message\.html:7: "),
    ({"message_html": HTML + "{{ sku | shout }}"}, r"message\.html:7: .*shout"),
    ({"message_html": HTML + "{% include 'x' %}"}, r"message\.html:7: a message is one file"),
    ({"message_html": HTML + "{{ mtad_link(1) }}"}, r"message\.html:7: mtad_link"),
    ({"message_html": HTML.replace("{{ imprint }}", "")}, r"message\.html: .*\{\{ imprint \}\}"),
    ({"message_html": HTML.replace("{{ unsubscribe_url }}", "#")}, r"message\.html: .*\{\{ unsubscribe_url \}\}"),
    ({"message_html": HTML.replace("{{ imprint }}", "<!-- {{ imprint }} -->")}, r"message\.html: .*\{\{ imprint \}\}"),
    ({"message_html": HTML.replace("<p>{{ imprint }}", "<style>{{ imprint }}</style><p>")}, r"html: .* imprint \}\}"),
    (
        {"message_html": HTML.replace('<a href="{{ unsubscribe_url', '<area href="{{ unsubscribe_url')},
        "made from it lacks",
    ),
    ({"message_txt": "{{ imprint }}"}, r"message\.txt: .*\{\{ unsubscribe_url \}\}"),
    ({"message_txt": "{{ imprint }} {{ unsubscribe_url }}\n{{ nobody }}"}, r"message\.txt:2: .*'nobody'"),
]


async def test_a_bad_program_is_one_clear_line_and_changes_nothing(pool: Pool, stream: Path, files: Writer) -> None:
    said = [(clue, await refusal(pool, files(**change))) for change, clue in BAD_PROGRAMS]

    assert [pair for pair in said if not re.search(*pair)] == []


async def test_a_bad_change_leaves_the_version_before(pool: Pool, stream: Path, files: Writer) -> None:
    await apply_program(pool, files(), "test")

    assert "frist_name" in await refusal(pool, files(subject_txt="{{ frist_name }}"))
    assert await pool.fetchval("select version from program") == 1
