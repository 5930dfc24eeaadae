"""What the demo plays with: the installation, the receiver, the people, and the viewer's mailbox."""

import msgspec

from mtad.base.clock import Clock
from mtad.base.db import Pool
from mtad.lab.installation import Installation, free_port
from mtad.lab.mailbox import Mailbox
from mtad.lab.people import DOMAINS, VIEWER_DOMAIN, Crowd
from mtad.lab.recipients import Recipients
from mtad.lab.screen import Screen
from mtad.lab.sink import Sink

DOMAIN = "fernweh.example"
STREAM, SERIES, NEWSLETTER, WINBACK = "courses", "first-steps", "newsletter", "winback"
THRESHOLD = 20
DAY = 1.0  # seconds

# One mail to everybody shall take so long that the next is still queued when people react.
SECONDS_A_MAIL = 12


class Options(msgspec.Struct, frozen=True):
    """What the command says."""

    contacts: int
    seed: int
    stay: bool


class Stage(msgspec.Struct, frozen=True):
    """Everything that one run of the demo needs."""

    options: Options
    place: Installation
    pool: Pool
    sink: Sink
    recipients: Recipients
    mailbox: Mailbox
    people: Crowd
    screen: Screen
    clock: Clock

    async def set(self) -> None:
        """Configuration and schema; comes first."""
        ports = dict(zip((*DOMAINS, VIEWER_DOMAIN), self.sink.ports, strict=True))
        rate = max(4, -(-self.options.contacts // (SECONDS_A_MAIL * len(DOMAINS))))
        self.place.route(ports, tracker_port=free_port(), rate=rate)
        self.place.copy_files(self.mailbox.url + "shop/")
        self.screen.act(
            "The stage.",
            f"An installation in {self.place.folder}, with a Postgres of its own.",
            f"A receiving server on {len(ports)} ports of loopback: five domains, {rate} mails a second to each.",
            "One day lasts one second here, and hits settle after one second; everything else is as in production.",
        )
        await self.place.command("migrate")
