"""Files → contacts in a real database."""

from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from engine.service import Suppress, suppress
from mtad.audience import store
from mtad.audience.values import Type
from mtad.base.db import Connection
from mtad.base.errors import InputError
from tests.audience.conftest import CONSENT, NOW, Importer


async def test_contact_comes_with_gate_identities_and_domain(load: Importer) -> None:
    summary = await load("email,external_id,locale,zone,Name\nAnn@BÜCHER.test,c-1,de,Europe/Berlin,Änn\n")

    contact = await load.contact("ann@xn--bcher-kva.test")
    assert (contact["address"], contact["locale"], contact["zone"]) == ("Ann@BÜCHER.test", "de", "Europe/Berlin")
    assert (contact["attributes"], contact["gate"]) == ({"name": "Änn"}, 1)
    assert await load.column("select kind || ' ' || key from identity order by 1") == [
        "email ann@xn--bcher-kva.test",
        "external c-1",
    ]
    assert await load.column("select name from domain where site_id is null and resolve_at = '-infinity'") == [
        "xn--bcher-kva.test"
    ]
    assert await load.column("select contact_id from subscription") == []
    assert (summary.rows, summary.made, summary.refused, summary.rejects) == (1, 1, 0, None)


async def test_contacts_stand_in_order_of_the_key_but_those_of_a_small_domain_together(load: Importer) -> None:
    big = [f"{letter}@big.test" for letter in "abcdefghijklmnopq"]  # 17
    edge = [f"{letter}x@edge.test" for letter in "abcdefghijklmnop"]  # 16

    await load("\n".join(["email", *big, *edge, "m@small.test", "c@small.test"]))

    keys = await load.column("select address_key from contact order by id")
    assert keys == [*big[:1], *edge, *big[1:3], "c@small.test", "m@small.test", *big[3:]]
    assert await load.column("select name from domain order by id") == ["big.test", "edge.test", "small.test"]


async def test_same_address_updates_the_contact_and_empty_cells_leave_what_is_there(load: Importer) -> None:
    await load("email,name,age,locale\nann@x.test,Ann,44,de\nben@x.test,Ben,40,de\n")

    summary = await load("email,name,city,locale\nANN@X.TEST,,Wien,\nBen@x.test,Ben,,de\n")

    ann = await load.contact("ann@x.test")
    assert (ann["address"], ann["locale"]) == ("ANN@X.TEST", "de")
    assert ann["attributes"] == {"name": "Ann", "age": 44, "city": "Wien"}
    assert (summary.made, summary.changed, summary.unchanged) == (0, 2, 0)


async def test_gate_is_raised_only_where_something_changed(load: Importer) -> None:
    await load("email,city\nann@x.test,Wien\nben@x.test,Wien\n")

    summary = await load("email,city\nann@x.test,Graz\nben@x.test,Wien\n")

    assert (await load.contact("ann@x.test"))["gate"] == 2
    assert (await load.contact("ben@x.test"))["gate"] == 1
    assert (summary.changed, summary.unchanged) == (1, 1)


async def test_attributes_are_typed_over_the_whole_file_and_registered(load: Importer) -> None:
    summary = await load("email,n,d,b,t,z,empty\na@x.test,1,2026-01-01,true,1,01099,\nb@x.test,2.5,,FALSE,x,99999,\n")

    assert (await load.contact("a@x.test"))["attributes"] == {
        "n": 1, "d": "2026-01-01", "b": True, "t": "1", "z": "01099",
    }  # fmt: skip
    assert {name: kind for name, kind in await load.pool.fetch("select name, type from attribute")} == {  # noqa: C416
        "n": "number", "d": "date", "b": "bool", "t": "text", "z": "text",
    }  # fmt: skip
    assert summary.attributes["n"] is Type.NUMBER


async def test_attribute_that_no_contact_has_is_not_registered(load: Importer) -> None:
    await load("email,name,city\na@x.test,,Wien\nnobody,Ann,\n")

    assert await load.column("select name from attribute") == ["city"]


async def test_row_that_does_not_fit_the_registered_type_is_rejected(load: Importer) -> None:
    await load("email,age\na@x.test,44\n")

    await load("email,age\nb@x.test,old\nc@x.test,30\n")

    assert load.rejected() == ["2,b@x.test,age: 'old' is not a number; write 1200 or 9.95"]
    assert (await load.contact("c@x.test"))["attributes"] == {"age": 30}


async def test_type_that_is_asked_for_holds_for_a_new_attribute(load: Importer) -> None:
    await load("email,postcode\na@x.test,80331\n", types={"postcode": Type.TEXT})
    await load("email,postcode\na@x.test,01099\n")

    assert (await load.contact("a@x.test"))["attributes"] == {"postcode": "01099"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
async def test_encodings_delimiters_and_quoted_newlines(load: Importer, delimiter: str, encoding: str) -> None:
    rows = [["email", "note"], ["a@x.test", '"zwei\nZeilen: Ä"'], ["nobody", "x"]]
    text = "\r\n".join(delimiter.join(row) for row in rows)

    await load(text.encode(encoding))

    assert (await load.contact("a@x.test"))["attributes"] == {"note": "zwei\nZeilen: Ä"}
    assert load.rejected() == ["4,nobody,no @ in it"]


async def test_named_encoding_is_used_and_never_guessed(load: Importer) -> None:
    content = "email,name\na@x.test,Müller\n".encode("cp1252")

    with pytest.raises(InputError, match=r"byte 21 is not UTF-8; name the encoding"):
        await load(content)
    await load(content, encoding="cp1252")

    assert (await load.contact("a@x.test"))["attributes"] == {"name": "Müller"}


async def test_bad_rows_go_to_the_rejects_and_good_ones_are_kept(load: Importer) -> None:
    summary = await load("email,name\na@x.test,A\n,B\nb@x,C\nc@x.test\nd@x.test,D\n")

    assert await load.column("select address_key from contact order by 1") == ["a@x.test", "d@x.test"]
    assert load.rejects.read_text().splitlines() == [
        "line,email,reason",
        "3,,email is empty",
        "4,b@x,the domain 'x' is not valid",
        '5,c@x.test,"1 cells, the header has 2"',
    ]
    assert (summary.rows, summary.made, summary.refused, summary.rejects) == (5, 2, 3, str(load.rejects))


async def test_rejects_of_an_earlier_import_are_taken_away(load: Importer) -> None:
    await load("email\nnobody\n")
    assert load.rejected()

    summary = await load("email\na@x.test\n")

    assert (load.rejects.exists(), summary.rejects) == (False, None)
    assert load.files() == ["people.csv"]


async def test_of_several_rows_for_one_address_the_last_one_counts(load: Importer) -> None:
    summary = await load("email,n\na@x.test,1\nA@X.test,2\nb@x.test,3\na@X.TEST,4\n")

    assert (await load.contact("a@x.test"))["attributes"] == {"n": 4}
    assert load.rejected() == [
        "2,a@x.test,the same address stands in line 5",
        "3,A@X.test,the same address stands in line 5",
    ]
    assert (summary.rows, summary.made, summary.refused, summary.reasons) == (4, 2, 2, {"double": 2})


async def test_external_id_belongs_to_one_contact(load: Importer) -> None:
    await load("email,external_id\na@x.test,1\nb@x.test,2\nc@x.test,2\n")
    assert load.rejected() == ["3,b@x.test,the same external_id stands in line 4"]

    await load("email,external_id\nd@x.test,1\na@x.test,1\ne@x.test,5\n")

    assert load.rejected() == ["2,d@x.test,the same external_id stands in line 3"]
    await load("email,external_id\nf@x.test,1\n")
    assert load.rejected() == ["2,f@x.test,external_id '1' belongs to another contact"]
    assert await load.column("select count(*) from contact") == [3]


async def test_stream_subscribes_with_basis_source_and_proof(load: Importer) -> None:
    await load(
        "email,consent_at,consent_source,tracking\na@x.test,2026-01-01 10:00,fair,full\nb@x.test,,,\n",
        stream="news",
        basis="existing_customer",
        source="shop",
    )

    rows = await load.pool.fetch(
        "select address_key, status::text, basis, source, consent_at, tracking::text, changed_by"
        " from subscription s join contact c on c.id = s.contact_id order by 1"
    )
    assert [tuple(row) for row in rows] == [
        ("a@x.test", "subscribed", "existing_customer", "fair", datetime(2026, 1, 1, 10, tzinfo=UTC), "full", "import"),
        ("b@x.test", "subscribed", "existing_customer", "shop", None, None, "import"),
    ]
    assert await load.column("select count(*) from engagement") == [0]


@pytest.mark.parametrize(
    ("header", "options", "said"),
    [
        ("email", {"stream": "news"}, "by what right"),
        ("email", {"stream": "news", "basis": "consent"}, "by what right"),
        ("email", {"stream": "news", "basis": "hope", "source": "x"}, "--basis hope: write consent"),
        ("email,consent_at", {"stream": "news"}, "by what right"),
        ("email,tracking", {}, "column tracking says something about a stream: add --stream NAME"),
        ("email", {"basis": "consent"}, "add --stream NAME"),
        ("email", {**CONSENT, "stream": "olds"}, "--stream olds: there is no such stream"),
        ("name", {}, "no column 'email' in the header: 'name'"),
    ],
)
async def test_contradictory_command_is_refused_in_one_line(
    load: Importer, header: str, options: dict[str, str], said: str
) -> None:
    before = await load.everything()

    with pytest.raises(InputError, match=r"^[^\n]*$") as refused:
        await load(f"{header}\n", **options)

    assert said in str(refused.value)
    assert await load.everything() == before


async def test_consent_columns_alone_are_proof_enough(load: Importer) -> None:
    summary = await load("email,consent_at,consent_source\na@x.test,2026-01-01,form\nb@x.test,,form\n", stream="news")

    assert (summary.subscribed, summary.refused) == (1, 1)
    assert await load.column("select basis from subscription") == ["consent"]


@pytest.mark.parametrize(("status", "reason"), [("unsubscribed", "unsubscribed"), ("unconfirmed", "not_confirmed")])
async def test_who_left_stays_so_and_is_listed(load: Importer, status: str, reason: str) -> None:
    await load("email,city\na@x.test,Wien\nb@x.test,Wien\n", **CONSENT)
    await load.pool.execute(
        "update subscription set status = $1::text::subscription_status, changed_by = 'one_click'"
        " where contact_id = (select id from contact where address_key = 'a@x.test')",
        status,
    )

    summary = await load("email,city\nA@x.test,Graz\nb@x.test,Graz\n", **CONSENT)

    rows = await load.pool.fetch("select status::text, changed_by from subscription order by contact_id")
    assert [tuple(row) for row in rows] == [(status, "one_click"), ("subscribed", "import")]
    assert load.rejected() == [f"2,A@x.test,{reason}"]
    assert (await load.contact("a@x.test"))["attributes"] == {"city": "Graz"}
    assert (summary.kept, summary.refused, summary.subscribed, summary.changed) == (1, 0, 0, 2)


async def test_suppressed_stay_suppressed_and_are_listed(load: Importer) -> None:
    await load("email,n\nbounced@x.test,1\n", **CONSENT)
    async with load.pool.acquire() as conn, conn.transaction():
        await suppress(
            conn,
            [
                Suppress("bounced@x.test", "all", "hard_bounce", "t"),
                Suppress("angry@x.test", "marketing", "complained", "t"),
                Suppress("@gone.test", "all", "manual", "t"),
                Suppress("old@x.test", "all", "manual", "t", datetime(2026, 1, 1, tzinfo=UTC)),
            ],
        )
    before = await load.column("select to_jsonb(s) from suppression s order by id")

    summary = await load(
        "email,n\nBounced@x.test,2\nangry@x.test,2\nany@GONE.test,2\nold@x.test,2\nfine@x.test,2\n", **CONSENT
    )

    assert load.rejected() == [
        "2,Bounced@x.test,suppressed:hard_bounce",
        "3,angry@x.test,complained",
        "4,any@GONE.test,suppressed_domain",
    ]
    assert await load.column("select address_key from contact order by 1") == [
        "bounced@x.test", "fine@x.test", "old@x.test",
    ]  # fmt: skip
    assert await load.column("select to_jsonb(s) from suppression s order by id") == before
    assert (summary.kept, summary.refused, summary.made, summary.subscribed) == (1, 2, 2, 2)


async def test_break_and_engagement_of_the_subscribed_are_kept(load: Importer) -> None:
    await load("email\na@x.test\n", **CONSENT)
    await load.pool.execute("update subscription set break_until = '2026-07-01'")
    await load.pool.execute(
        "insert into engagement (stream_id, contact_id, state, since, round_from, first_sent)"
        " select stream_id, contact_id, 'engaged', now(), now(), now() from subscription"
    )
    before = await load.everything()

    await load("email,last_sign_at,state\na@x.test,2020-01-01,inactive\n", **CONSENT)

    after = await load.everything()
    assert after["subscription"] == before["subscription"]
    assert after["engagement"] == before["engagement"]


async def test_old_last_sign_arrives_as_inactive_with_a_finished_cool_down(load: Importer) -> None:
    recently = (NOW - timedelta(days=2)).date()
    summary = await load(
        "email,last_sign_at,mails_since_sign,state\n"
        "old@x.test,2020-01-01,30,engaged\n"
        f"young@x.test,{recently},30,\n"
        "fan@x.test,,,Engaged\n"
        "off@x.test,,,inactive\n"
        "new@x.test,,,new\n"
        "none@x.test,,,\n",
        **CONSENT,
    )

    rows = await load.pool.fetch(
        "select address_key, state::text, ignored, cycle, cool_until <= now() as cool, first_sent is not null as sent"
        " from engagement e join contact c on c.id = e.contact_id order by 1"
    )
    assert [tuple(row) for row in rows] == [
        ("fan@x.test", "engaged", 0, 0, None, True),
        ("off@x.test", "cooling", 0, 1, True, True),
        ("old@x.test", "cooling", 0, 1, True, True),
        ("young@x.test", "active", 4, 0, None, True),  # one attempt of ours decides: policy.attempts is 5
    ]
    logged = await load.column("select to_state::text from transition where fact = 'import:people.csv' order by 1")
    assert logged == ["cooling", "cooling", "engaged"]
    assert (summary.subscribed, summary.inactive) == (6, 2)


async def test_tracking_becomes_stricter_and_never_laxer(load: Importer) -> None:
    await load("email,tracking\na@x.test,none\nb@x.test,\nc@x.test,\nd@x.test,aggregate\n", **CONSENT)

    await load("email,tracking\na@x.test,full\nb@x.test,full\nc@x.test,none\nd@x.test,none\n", **CONSENT)

    rows = await load.pool.fetch(
        "select address_key, tracking::text, g.version from subscription s"
        " join contact c on c.id = s.contact_id join gate g on g.contact_id = c.id order by 1"
    )
    assert [tuple(row) for row in rows] == [
        ("a@x.test", "none", 1), ("b@x.test", None, 1), ("c@x.test", "none", 2), ("d@x.test", "none", 2),
    ]  # fmt: skip


async def test_dry_run_says_the_same_and_changes_nothing(load: Importer) -> None:
    await load("email,n\na@x.test,1\ngone@x.test,1\n", **CONSENT)
    await load.pool.execute("update subscription set status = 'unsubscribed' where contact_id = 2")
    before = await load.everything()
    content = "email,n,new\na@x.test,2,x\nb@x.test,3,x\nnobody,3,x\ngone@x.test,1,\n"

    dry = await load(content, **CONSENT, dry_run=True)

    assert await load.everything() == before
    assert load.rejected() == ["4,nobody,no @ in it", "5,gone@x.test,unsubscribed"]
    real = await load(content, **CONSENT)
    assert {**_fields(dry), "dry_run": False} == _fields(real)


async def test_failure_in_the_middle_leaves_nothing(load: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    await load("email,n\na@x.test,1\nnobody,1\n")
    before, rejected = await load.everything(), load.rejected()

    async def fail(conn: Connection, *_: object, **__: object) -> None:
        await conn.execute("select 1 / 0")

    monkeypatch.setattr(store, "tighten_tracking", fail)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await load("email,n,tracking\na@x.test,2,full\nb@x.test,2,\nc@x,2,\n", **CONSENT)

    assert await load.everything() == before
    assert load.rejected() == rejected
    assert load.files() == ["people.csv", "people.rejects.csv"]


@pytest.mark.parametrize("broken", ['d@x.test,"open', "d@x.test,\0", b"d@x.test,\xff".decode("latin-1")])
async def test_file_that_breaks_further_down_leaves_nothing(load: Importer, broken: str) -> None:
    before = await load.everything()
    content = "email,n\n" + "".join(f"p{n}@x.test,{n}\n" for n in range(100)) + broken

    with pytest.raises(InputError, match=r"^[^\n]*(line 102|byte)[^\n]*$"):
        await load(content.encode("latin-1"))

    assert await load.everything() == before


async def test_progress_names_every_stage(load: Importer) -> None:
    await load("email\na@x.test\n")

    assert list(dict.fromkeys(load.stages)) == ["reading", "checking", "writing"]


def _fields(summary: object) -> dict[str, object]:
    return {name: getattr(summary, name) for name in summary.__struct_fields__}  # type: ignore[attr-defined]
