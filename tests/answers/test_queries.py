"""Every question is a statement that the migrated schema understands, and answers with rows of its struct."""

import pytest

from engine.facts import Facts
from mtad.base.db import Connection
from mtad.base.sqlfiles import queries
from mtad.ops.answers.person import Contact, Entry, Event, Identity, Mail, OnStream, Suppression, Transition
from mtad.ops.answers.programs import ProgramRow
from mtad.ops.answers.report import LinkReport, MailReport

STRUCTS = {
    "program_by_name": ProgramRow,
    "mails_of_program": MailReport,
    "clicks_of_program": LinkReport,
    "contact_by_key": Contact,
    "identities_of_contact": Identity,
    "suppressions_of_keys": Suppression,
    "streams_of_contact": OnStream,
    "mails_of_contact": Mail,
    "events_of_contact": Event,
    "transitions_of_contact": Transition,
    "entries_of_contact": Entry,
}


@pytest.mark.parametrize("name", sorted(queries("answers")))
async def test_each_question_fits_the_schema(conn: Connection, name: str) -> None:
    prepared = await conn.prepare(queries("answers")[name])

    if name in STRUCTS:
        assert len(prepared.get_attributes()) == len(STRUCTS[name].__struct_fields__)


async def test_the_facts_of_a_queued_job_are_those_of_the_claim(conn: Connection) -> None:
    asked = (await conn.prepare(queries("answers")["facts_of_queued"])).get_attributes()
    claimed = (await conn.prepare(queries("queue")["claim"])).get_attributes()

    assert len(claimed) == len(Facts.__struct_fields__)
    assert [a.type.name for a in asked[:-3]] == [c.type.name for c in claimed]
