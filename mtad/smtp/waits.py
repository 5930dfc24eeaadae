"""How long each state of the dialogue may last, and how a person would say what we wait for. Pure."""

from collections.abc import Mapping

import msgspec

from mtad.smtp.results import Stage


class Wait(msgspec.Struct, frozen=True):
    """How long we wait in a stage, in seconds, and for what."""

    seconds: float
    phrase: str


# RFC 5321 section 4.5.3.2 is the least; 600 s for the final dot because a server
# that is slow there has often taken the message, and giving up makes a duplicate.
# RSET and QUIT are about no message: nothing is lost when we stop listening.
WAITS: Mapping[Stage, Wait] = {
    Stage.CONNECT: Wait(30, "connecting"),
    Stage.BANNER: Wait(60, "waiting for the greeting"),
    Stage.EHLO: Wait(300, "waiting for the answer to EHLO"),
    Stage.STARTTLS: Wait(60, "waiting for the answer to STARTTLS"),
    Stage.TLS: Wait(60, "negotiating TLS"),
    Stage.AUTH: Wait(60, "waiting for the answer to AUTH"),
    Stage.RSET: Wait(20, "waiting for the answer to RSET"),
    Stage.MAIL: Wait(300, "waiting for the answer to MAIL"),
    Stage.RCPT: Wait(300, "waiting for the answer to RCPT"),
    Stage.DATA: Wait(120, "waiting for the answer to DATA"),
    Stage.BODY: Wait(180, "sending the message"),
    Stage.DOT: Wait(600, "waiting for the answer to the final dot"),
    Stage.QUIT: Wait(5, "waiting for the answer to QUIT"),
}

# The watchdog: one message, or one opening, may take no longer than this as a whole.
# All waits of a message of one piece in a row are 1,520 s, so it never cuts a server
# that is merely slow; it ends one that takes a large message at a few octets a second,
# each piece of it just in time.
WATCHDOG = 3600.0
