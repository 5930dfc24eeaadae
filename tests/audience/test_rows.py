"""Header and rows → contacts, or reasons."""

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.audience.columns import columns_of, normal_name
from mtad.audience.rows import Contact, Permission, Rejected, RowReader, Types
from mtad.audience.values import Type
from mtad.base.address import parse_address
from mtad.base.errors import InputError

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
ZONES = frozenset({"Europe/Berlin"})


def read(
    header: str, row: str, *, types: dict[str, Type] | None = None, permission: Permission | None = None
) -> Contact | Rejected:
    columns = columns_of(header.split(","))
    return RowReader(columns, types or {}, permission=permission, zones=ZONES, now=NOW).read(7, row.split(","))


def reason(header: str, row: str, **more: object) -> str:
    bad = read(header, row, **more)  # type: ignore[arg-type]
    assert isinstance(bad, Rejected), bad
    return bad.reason


def good(header: str, row: str, **more: object) -> Contact:
    contact = read(header, row, **more)  # type: ignore[arg-type]
    assert isinstance(contact, Contact), contact
    return contact


LOCAL = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z0-9+_-]{1,8}){0,2}", fullmatch=True)
LABEL = st.from_regex(r"[a-zäöüéñç0-9]{1,10}", fullmatch=True)


@given(LOCAL, LABEL, st.data())
def test_same_person_has_the_same_key_however_it_is_written(local: str, label: str, data: st.DataObject) -> None:
    host = f"{label}.example"
    forms = st.sampled_from([host, host.upper(), host + ".", host.title(), parse_address(f"a@{host}").domain])
    locals_ = st.tuples(*(st.sampled_from([c, c.upper()]) for c in local)).map("".join)

    written = [f" {data.draw(locals_)}@{data.draw(forms)} " for _ in range(3)]

    assert {good("email", text).key for text in written} == {parse_address(f"{local}@{host}").key}
    assert [good("email", text).address for text in written] == [text.strip() for text in written]


@given(st.from_regex(r"[a-z][a-z0-9 _-]{0,20}", fullmatch=True))
def test_names_are_normalised_once_and_for_all(text: str) -> None:
    assert normal_name(normal_name(text)) == normal_name(text)
    assert normal_name(f"  {text.upper()} ") == normal_name(text)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (["name"], "no column 'email' in the header: 'name'"),
        (["email", ""], "column 2 has no name"),
        (["email", "First Name", "first_name"], "columns 'First Name' and 'first_name' are both called first_name"),
        (["email", "E-MAIL", "Email"], "columns 'email' and 'Email' are both called email"),
        (["email", "2nd"], "column '2nd': no name for an attribute"),
        (["email", "__class__"], "column '__class__': no name for an attribute"),
        (["email", "unsubscribe_url"], "column 'unsubscribe_url': unsubscribe_url is reserved"),
        (["email", "Not"], "column 'Not': not is reserved"),
        (["email", "mtad_pixel"], "column 'mtad_pixel': mtad_pixel is reserved"),
    ],
)
def test_header_that_cannot_be_used_is_one_line(header: list[str], said: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*$") as refused:
        columns_of(header)

    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("email", "", "email is empty"),
        ("email", "nobody", "no @ in it"),
        ("email", "a@localhost", "the domain 'localhost' is not valid"),
        ("email,name", "a@x.test", "1 cells, the header has 2"),
        ("email,zone", "a@x.test,Mars/Base", "zone: 'Mars/Base' is not a time zone; write Europe/Berlin"),
        ("email,locale", "a@x.test,german!", "locale: 'german!' is not a language tag; write de or de-AT"),
        ("email,state", "a@x.test,CA", "state: 'CA' is none of new, active, engaged, reactivated, inactive"),
        ("email,tracking", "a@x.test,some", "tracking: 'some' is none of full, hygiene, aggregate, none"),
        ("email,mails_since_sign", "a@x.test,-1", "mails_since_sign: '-1' is not a count of mails; write 12"),
        ("email,last_sign_at", "a@x.test,2026-06-02", "last_sign_at: '2026-06-02' lies in the future"),
        ("email,last_sign_at", "a@x.test,1.2.2026", "last_sign_at: '1.2.2026' is not a date"),
    ],
)
def test_bad_row_has_a_reason(header: str, row: str, said: str) -> None:
    assert reason(header, row).startswith(said)


def test_bad_row_is_found_again_by_its_line_and_address() -> None:
    assert read("name,email", "A,b@@x.test") == Rejected(7, "b@@x.test", "the part before the @ is not valid")


def test_known_columns_are_read_and_the_others_become_typed_attributes() -> None:
    contact = good(
        "Age,email,locale,zone,external_id,Last Order,empty",
        "44,Ann@X.Test,de_AT,Europe/Berlin, 00-7 ,2026-01-31,",
        types={"age": Type.NUMBER, "last_order": Type.DATE, "empty": Type.TEXT},
    )

    assert (contact.key, contact.address, contact.domain) == ("ann@x.test", "Ann@X.Test", "x.test")
    assert (contact.locale, contact.zone, contact.external_id) == ("de-AT", "Europe/Berlin", "00-7")
    assert msgspec.json.decode(contact.attributes) == {"age": 44, "last_order": "2026-01-31"}


def test_value_of_another_type_than_registered_rejects_the_row() -> None:
    assert reason("email,age", "a@x.test,old", types={"age": Type.NUMBER}).startswith("age: 'old' is not a number")


def test_fields_are_those_that_a_file_can_fill() -> None:
    columns = columns_of(["state", "email", "age", "consent_at"])

    def fields(permission: Permission | None) -> list[str]:
        return RowReader(columns, {}, permission=permission, zones=ZONES, now=NOW).fields

    assert fields(None) == ["line", "key", "address", "domain", "attributes", "consent_at", "state"]
    assert fields(Permission("consent", "crm")) == [
        "line", "key", "address", "domain", "attributes", "source", "consent_at", "state",
    ]  # fmt: skip


@given(st.sampled_from(["locale", "zone", "external_id", "tracking", "last_sign_at", "mails_since_sign", "state"]))
def test_contact_differs_from_an_empty_one_in_its_fields_only(name: str) -> None:
    cells = {"locale": "de", "zone": "Europe/Berlin", "tracking": "none", "last_sign_at": "2026-01-01", "state": "new"}
    header = f"email,{name}"

    filled, empty = good(header, f"a@x.test,{cells.get(name, '7')}"), good(header, "a@x.test,")

    differ = [f for f in Contact.__struct_fields__ if getattr(filled, f) != getattr(empty, f)]
    assert differ == [
        f
        for f in RowReader(columns_of(header.split(",")), {}, permission=None, zones=ZONES, now=NOW).fields
        if f not in ("line", "key", "address", "domain", "attributes")
    ]


def test_row_without_proof_is_rejected_when_the_command_brings_none() -> None:
    header, by_row = "email,consent_at,consent_source", Permission("consent", "")

    assert reason(header, "a@x.test,,form", permission=by_row) == "consent_at is empty"
    assert reason(header, "a@x.test,2026-01-01,", permission=by_row) == "consent_source is empty"
    assert reason(header, "a@x.test,2027-01-01,form", permission=by_row).endswith("lies in the future")
    assert good(header, "a@x.test,2026-01-01,form", permission=by_row).source == "form"
    assert good(header, "a@x.test,,", permission=Permission("contract", "crm")).source == "crm"


def test_types_come_from_all_rows_and_yield_to_the_registry() -> None:
    types = Types(columns_of(["email", "a", "b", "c", "d"]))
    types.add([["x", "1", "1", "", "1"], ["x", "short row, not counted"]])
    types.add([["x", "2.5", "x", " ", "2"]])

    assert types.decided({}, {}) == {"a": Type.NUMBER, "b": Type.TEXT, "d": Type.NUMBER}
    assert types.decided({"a": Type.DATE}, {"d": Type.TEXT})["a"] is Type.DATE
    assert types.decided({"a": Type.DATE}, {"d": Type.TEXT})["d"] is Type.TEXT


def test_a_type_that_cannot_be_had_is_refused_and_not_ignored() -> None:
    types = Types(columns_of(["email", "a"]))

    with pytest.raises(InputError, match="--type b=text: the file has no such column"):
        types.decided({}, {"b": Type.TEXT})
    with pytest.raises(InputError, match="--type a=text: earlier imports made it number"):
        types.decided({"a": Type.NUMBER}, {"a": Type.TEXT})
