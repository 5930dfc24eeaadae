"""What everybody says at the end of the demo, each from its own books: sink, ledger, recipients, the audit."""

import asyncio

from mtad.lab import store
from mtad.lab.installation import fdatasync_ms
from mtad.lab.people import Crowd
from mtad.lab.recipients import SERIES_MAILS, Character, character_of, reads
from mtad.lab.reckoning import Everybody, Facts
from mtad.lab.stage import NEWSLETTER, SERIES, STREAM, WINBACK, Stage
from mtad.lab.verify import Verifier, verify_all
from tracker.tokens import Keys, read_return_path


async def facts_of(stage: Stage, *, seconds: float, exit_code: int | None) -> Facts:
    """To be compared. `seconds`: how long the demo took; `exit_code`: of `mtad run`, None while it runs."""
    audits = [await stage.place.command("audit", name) for name in (SERIES, NEWSLETTER, WINBACK)]
    verdicts = await verify_all(
        Verifier.from_config(stage.place.config), [copy.message for copy in stage.sink.messages]
    )
    keys = Keys.parse(stage.place.config.path(stage.place.config.tracker.keys).read_text(encoding="ascii"))
    jobs = [read_return_path(keys, copy.sender.partition("@")[0]) for copy in stage.sink.messages]
    scanners = [a for a in stage.people.addresses if character_of(a, stage.options.seed) is Character.SCANNER]
    async with stage.pool.acquire() as conn:
        return Facts(
            audits=audits,
            jobs=jobs,
            ledger=await store.ended(conn),
            verdicts=verdicts,
            states=await store.states(conn, STREAM),
            hits={hit.class_: (hit.count, hit.points) for hit in await store.hits(conn)},
            scanner_points=await store.points_of(conn, scanners),
            newsletter=await store.got_by_state(conn, "december"),
            sessions=stage.sink.sessions,
            refused=stage.sink.refused.total(),
            failed_requests=stage.recipients.failed,
            workers=await store.workers_ever(conn),
            exit_code=exit_code,
            read=await store.read(conn, (SERIES, NEWSLETTER)),
            everybody=everybody(stage.people, stage.options.seed),
            deadlocks=await store.deadlocks(conn),
            fdatasync_ms=await asyncio.to_thread(fdatasync_ms, stage.place.folder),
            seconds=seconds,
        )


def everybody(people: Crowd, seed: int) -> Everybody:
    """What series and newsletter would have been with nobody left alone: the same people, computed.

    Who leaves by the second mail gets no third one, as the law has it. You are silent.
    """
    got = {
        address: 2 if character_of(address, seed) is Character.LEAVER else SERIES_MAILS + 1
        for address in people.reachable
    }
    return Everybody(
        mails=sum(got.values()) + SERIES_MAILS + 1,
        read=sum(
            reads(character_of(address, seed), number) for address, n in got.items() for number in range(1, n + 1)
        ),
    )
