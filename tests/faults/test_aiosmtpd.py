"""A server that others wrote takes our mail as we meant it: the lab's sink is not the only judge of our SMTP."""

import asyncio

from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.faults.office import MESSAGE, story_of


class Keeper:
    """What aiosmtpd asks of a handler, by name."""

    def __init__(self) -> None:
        self.kept: list[tuple[str | None, list[str], bytes | str | None]] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        self.kept.append((envelope.mail_from, envelope.rcpt_tos, envelope.original_content))
        return "250 2.0.0 kept"


async def test_aiosmtpd_takes_three_mails_on_one_connection() -> None:
    keeper, servers = Keeper(), []

    def connected() -> SMTP:
        servers.append(SMTP(keeper, loop=asyncio.get_running_loop()))
        return servers[-1]

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    async with server:
        story = await story_of(server.sockets[0].getsockname()[1], 3)

    assert story.rows == {mail: ["delivered 1: 250 2.0.0 kept"] for mail in (1, 2, 3)}
    assert keeper.kept == [("b@us.test", [f"p{mail}@x.test"], MESSAGE) for mail in (1, 2, 3)]
    assert len(servers) == 1
