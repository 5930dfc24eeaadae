"""The client's side of one SMTP connection (RFC 5321, 2920, 1870, 3207, 6531), without I/O.

The shell feeds it what the server said and writes what it says:

    client.start()                     the connection is there
    client.receive(data, at)           bytes came in
    client.take(now) -> bytes          bytes to write now, also the answer to what came in
    client.stage                       what we wait for, None: nothing; WAITS has its timeout
    client.wants_tls                   do the handshake, then tls_started()
    client.begin(...)                  one message, when `stage` is None and it is usable
    client.body                        the message is wanted: write it, then dot_written(at)
    client.result                      what came of the opening or of the message; take_result()

    start ─► BANNER ─► EHLO ─► [STARTTLS ─► TLS ─► EHLO] ─► idle ─► QUIT
                                                             │ ▲
                      [RSET] MAIL RCPT DATA ─► BODY ─► DOT ──┘ │    one write for the commands
                                   └─ refused ─────────────────┘    where PIPELINING is offered

421 anywhere, and anything that is not SMTP, ends the session: `usable` is False.
A message is Lost at Stage.DOT if and only if its last bytes were handed over and
no answer came: then nobody knows.
"""

from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from math import inf
from typing import ClassVar

import msgspec

from mtad.smtp import encode
from mtad.smtp.reply import NotSmtp, Reply, ReplyReader
from mtad.smtp.results import Accepted, Lost, Refused, Result, Stage, TooLate


class Wait(msgspec.Struct, frozen=True):
    """How long we wait in a stage, in seconds, and how a person would say what for."""

    seconds: float
    phrase: str


# RFC 5321 section 4.5.3.2 is the least; 600 s for the final dot because a server
# that is slow there has often taken the message, and giving up makes a duplicate.
WAITS: Mapping[Stage, Wait] = {
    Stage.CONNECT: Wait(30, "connecting"),
    Stage.BANNER: Wait(60, "waiting for the greeting"),
    Stage.EHLO: Wait(300, "waiting for the answer to EHLO"),
    Stage.STARTTLS: Wait(60, "waiting for the answer to STARTTLS"),
    Stage.TLS: Wait(60, "negotiating TLS"),
    Stage.RSET: Wait(20, "waiting for the answer to RSET"),
    Stage.MAIL: Wait(300, "waiting for the answer to MAIL"),
    Stage.RCPT: Wait(300, "waiting for the answer to RCPT"),
    Stage.DATA: Wait(120, "waiting for the answer to DATA"),
    Stage.BODY: Wait(180, "sending the message"),
    Stage.DOT: Wait(600, "waiting for the answer to the final dot"),
    Stage.QUIT: Wait(5, "waiting for the answer to QUIT"),
}

# An attribute of an Enum is looked up by its metaclass, 0.1 µs each time.
_MAIL, _RCPT, _DATA, _DOT = Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT


class Client:
    """The dialogue with one server; `host` is how results name it."""

    def __init__(self, hostname: str, host: str, *, try_tls: bool) -> None:
        self.host = host
        self.usable = True
        self.heard = 0  # replies so far
        self.data_at = 0.0  # when DATA was last written, on the clock of `take`
        self.wants_tls = False
        self.tls = False
        self.extensions: dict[str, str] = {}
        self.body: bytes | None = None
        self.result: Result | None = None
        self._hostname = hostname
        self._try_tls = try_tls
        self._reader = ReplyReader()
        self._commands: deque[tuple[Stage, bytes]] = deque()  # not written yet
        self._awaited: deque[Stage] = deque()  # written, not answered yet
        self._refusal: Refused | None = None  # the first of this message
        self._message = b""
        self._data_by = inf
        self._dot_at: datetime | None = None
        self._heard_before = 0  # replies when this message began
        self._served = False  # the server has answered for a message before this one
        self._open = False  # the server holds a transaction that the next one must reset
        self._helo = False

    # What the shell tells us

    def start(self) -> None:
        """The connection stands; the server speaks first."""
        self._awaited.append(Stage.BANNER)

    def tls_started(self) -> None:
        """The handshake succeeded: what was said before it is forgotten (RFC 3207 section 4.2)."""
        self.wants_tls = False
        self.tls = True
        self.extensions = {}
        self._commands.append((Stage.EHLO, encode.ehlo(self._hostname)))

    def begin(self, return_path: str, recipient: str, message: bytes, data_by: float) -> None:
        """Hand over one message; DATA is written at `data_by` at the latest (the clock of `take`), or never.

        ValueError, and nothing changes, when it cannot be said in SMTP. What the server
        cannot take by its own words is refused here, in its name, without asking it.
        """
        wire = encode.data(message)
        utf8 = not (recipient.isascii() and return_path.isascii())
        eight_bit = utf8 or not message.isascii()
        size = len(message) if "SIZE" in self.extensions else None
        mail = encode.mail(return_path, size=size, eight_bit=eight_bit, utf8=utf8)
        rcpt = encode.rcpt(recipient)
        if refusal := self._local_refusal(len(message), utf8=utf8, eight_bit=eight_bit):
            self.result = refusal
            return
        self._message = wire
        self._data_by = data_by
        self._heard_before = self.heard
        if self._open:
            self._commands.append((Stage.RSET, encode.RSET))
        self._commands.extend(((_MAIL, mail), (_RCPT, rcpt), (_DATA, encode.DATA)))

    def quit(self) -> None:
        """Say goodbye; whatever comes back, the session is over then."""
        self._commands.append((Stage.QUIT, encode.QUIT))

    def dot_written(self, at: datetime) -> None:
        """The last bytes of `body` are about to be handed over."""
        self.body = None
        self._dot_at = at

    def receive(self, data: bytes, at: datetime) -> None:
        """What the server sent, however it was cut."""
        if self.wants_tls or not self.usable:
            return  # said in clear after the go-ahead for TLS, or after the end
        if not self._awaited:
            self.usable = False  # most often "421 idle too long, closing"
            return
        self._reader.feed(data)
        try:
            while self._awaited and self.usable and (reply := self._reader.next_reply()) is not None:
                self._answer(reply, at)
        except NotSmtp as error:
            self.broke(f"the server answered with {error}")
            return
        if self.wants_tls:
            self._reader.clear()
        elif not self._awaited and self._reader.pending:
            self.usable = False  # it answers what was not asked: we would read its next answers wrongly
            if self.stage is None and self.result is None:  # so the opening ends here, and not well
                self._end(Lost(Stage.EHLO, "the server answered what was not asked", self.host))

    def take(self, now: float) -> bytes:
        """What to write now; judges whether there is still time for DATA."""
        if not self._commands:
            return b""
        if now > self._data_by:
            self._commands.clear()
            self._end(TooLate(self.host))
            return b""
        out = b""
        pipelining = "PIPELINING" in self.extensions
        while self._commands and (pipelining or not self._awaited):
            stage, command = self._commands.popleft()
            self._awaited.append(stage)
            out += command
            if stage is _DATA:
                self._data_by = inf
                self.data_at = now
        return out

    def closed(self, why: str = "the server closed the connection") -> None:
        """The connection is gone."""
        unheard = self.heard == self._heard_before and self.stage in (Stage.RSET, Stage.MAIL)
        if self._served and unheard:
            # It closed an idle session just when we spoke. A fresh session that is
            # closed so is an attempt, or a server that does it always would get us to
            # dial for ever.
            self._end(TooLate(self.host))
            self.usable = False
            return
        self.broke(why)

    def broke(self, why: str) -> None:
        """Nothing more will be understood on this connection."""
        stage = self.stage
        self.usable = False
        if stage is None or self.result is not None:
            return
        self._end(self._refusal or Lost(stage, f"{why} while {WAITS[stage].phrase}", self.host))

    # What the shell asks

    @property
    def stage(self) -> Stage | None:
        """What we wait for; None when the session is idle or over."""
        if self.wants_tls:
            return Stage.TLS
        if self.body is not None:
            return Stage.BODY
        if self._awaited:
            return self._awaited[0]
        return self._commands[0][0] if self._commands else None

    def take_result(self) -> Result | None:
        """What came of the last thing asked, once."""
        result, self.result = self.result, None
        return result

    # What the server's answers mean

    def _answer(self, reply: Reply, at: datetime) -> None:
        if self.body is not None:
            self._on_early_answer(reply)
            return
        stage = self._awaited.popleft()
        self.heard += 1
        if reply.code == 421:
            self.usable = False
            self._end(self._refusal or self._refused(stage, reply))
            return
        self._ANSWERS[stage](self, reply, at)
        if self._refusal and not self._awaited and not self._commands:
            self._end(self._refusal)

    def _on_banner(self, reply: Reply, _at: datetime) -> None:
        if _is_done(reply):
            self._commands.append((Stage.EHLO, encode.ehlo(self._hostname)))
        else:
            self._fail(Stage.BANNER, reply)

    def _on_ehlo(self, reply: Reply, _at: datetime) -> None:
        if _is_done(reply):
            self.extensions = {} if self._helo else _extensions(reply)
            if self._try_tls and not self.tls and "STARTTLS" in self.extensions:
                self._commands.append((Stage.STARTTLS, encode.STARTTLS))
        elif reply.code >= 500 and not self._helo:
            self._helo = True
            self._commands.append((Stage.EHLO, encode.helo(self._hostname)))
        else:
            self._fail(Stage.EHLO, reply)

    def _on_starttls(self, reply: Reply, _at: datetime) -> None:
        # Refused: go on in clear, TLS is opportunistic.
        self.wants_tls = _is_done(reply)

    def _on_rset(self, reply: Reply, _at: datetime) -> None:
        if not _is_done(reply):
            self._refuse(Stage.RSET, reply)
            self._open = True

    def _on_mail(self, reply: Reply, _at: datetime) -> None:
        self._open = True
        if not _is_done(reply):
            self._refuse(Stage.MAIL, reply)

    def _on_rcpt(self, reply: Reply, _at: datetime) -> None:
        if not _is_done(reply):
            self._refuse(Stage.RCPT, reply)

    def _on_data(self, reply: Reply, _at: datetime) -> None:
        if reply.code == 354 and self._refusal:
            # RFC 2920 section 3.1: it wants a message for nobody. An empty one gets it
            # back to commands; whatever it says to that, the refusal stands.
            self._commands.append((Stage.DOT, encode.END_OF_DATA))
        elif reply.code == 354:
            self.body = self._message
            self._awaited.append(_DOT)
        else:
            self._refuse(Stage.DATA, reply)

    def _on_early_answer(self, reply: Reply) -> None:
        """It has heard enough of the message. We cannot stop in the middle of one, so the session ends."""
        self._awaited.clear()
        self.usable = False
        if reply.code >= 400:
            self._end(self._refused(Stage.BODY, reply))
        else:
            self._end(Lost(Stage.BODY, f"the server said {reply.text!r} in the middle of the message", self.host))

    def _on_dot(self, reply: Reply, at: datetime) -> None:
        self._open = False  # RFC 5321 section 4.1.1.4: its buffers are cleared
        if self._refusal:
            return
        if _is_done(reply) and self._dot_at is not None:
            self._end(Accepted(reply.text, self._dot_at, at, self.host))
        else:
            self._refuse(Stage.DOT, reply)

    def _on_quit(self, _reply: Reply, _at: datetime) -> None:
        self.usable = False

    _ANSWERS: ClassVar[Mapping[Stage, Callable[["Client", Reply, datetime], None]]] = {
        Stage.BANNER: _on_banner,
        Stage.EHLO: _on_ehlo,
        Stage.STARTTLS: _on_starttls,
        Stage.RSET: _on_rset,
        Stage.MAIL: _on_mail,
        Stage.RCPT: _on_rcpt,
        Stage.DATA: _on_data,
        Stage.DOT: _on_dot,
        Stage.QUIT: _on_quit,
    }

    # How things end

    def _local_refusal(self, size: int, *, utf8: bool, eight_bit: bool) -> Refused | None:
        limit = self.extensions.get("SIZE", "").strip()
        if limit.isdecimal() and 0 < int(limit) < size:
            return self._own(552, "5.3.4", f"the message has {size} octets, the server takes {limit}")
        if utf8 and "SMTPUTF8" not in self.extensions:
            return self._own(553, "5.6.7", "the address is not ASCII and the server does not offer SMTPUTF8")
        if eight_bit and not utf8 and "8BITMIME" not in self.extensions:
            return self._own(554, "5.6.3", "the message is not ASCII and the server does not offer 8BITMIME")
        return None

    def _own(self, code: int, enhanced: str, why: str) -> Refused:
        return Refused(Stage.MAIL, code, enhanced, f"{code} {enhanced} not sent: {why}", self.host)

    def _refused(self, stage: Stage, reply: Reply) -> Refused:
        return Refused(stage, reply.code, reply.enhanced, reply.text, self.host)

    def _refuse(self, stage: Stage, reply: Reply) -> None:
        """The message will not go; nothing more is said about it that is not written yet."""
        if reply.code < 400:
            self._fail(stage, reply)
            return
        self._refusal = self._refusal or self._refused(stage, reply)
        self._commands.clear()

    def _fail(self, stage: Stage, reply: Reply) -> None:
        """The session will not come about, or an answer has no meaning in this stage."""
        self.usable = False
        if reply.code >= 400:
            self._end(self._refused(stage, reply))
        else:
            why = f"the server answered {reply.text!r} to {stage.value}"
            self._end(self._refusal or Lost(stage, why, self.host))

    def _end(self, result: Result) -> None:
        self.result = result
        self.body = None
        self.wants_tls = False
        self._message = b""
        self._data_by = inf
        self._dot_at = None
        self._refusal = None
        self._commands.clear()
        self._awaited.clear()
        self._served = self.heard > self._heard_before


def _is_done(reply: Reply) -> bool:
    return 200 <= reply.code < 300


def _extensions(reply: Reply) -> dict[str, str]:
    """Keywords of an EHLO reply, upper case, with their parameters; the first line is a greeting."""
    pairs = (line.partition(" ") for line in reply.lines[1:])
    return {keyword.upper(): parameters for keyword, _, parameters in pairs}
