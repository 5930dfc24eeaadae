"""The client's side of one SMTP connection (RFC 5321, 2920, 1870, 3030, 3207, 6531), without I/O.

The shell feeds it what the server said and writes what it says:

    client.start()                     the connection is there
    client.receive(data, at)           bytes came in
    client.take(now) -> bytes          bytes to write now, also the answer to what came in
    client.body                        the message, wanted right behind that: dot_written(at) before its last bytes
    client.stage                       what we wait for, None: nothing; WAITS has its timeout
    client.wants_tls                   do the handshake, then tls_started()
    client.begin(...)                  one message, when `stage` is None and it is usable
    client.result                      what came of the opening or of the message; take_result()

    start ─► BANNER ─► EHLO ─► [STARTTLS ─► TLS ─► EHLO] ─► [AUTH] ─► idle ─► QUIT
                                                             │ ▲
                      [RSET] MAIL RCPT DATA ─► BODY ─► DOT ──┘ │    one write for the commands
                                   └─ refused ─────────────────┘    where PIPELINING is offered
                      [RSET] MAIL RCPT BDAT+BODY ────► DOT          where CHUNKING is offered

What an answer means in each of these states is the table at the end of Client. 421
anywhere, and anything that is not SMTP, ends the session: `usable` is False.
A message is Lost at Stage.DOT if and only if its last bytes were handed over and
no answer came: then nobody knows.
"""

import re
from collections import deque
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from math import inf
from typing import ClassVar

from mtad.smtp import encode
from mtad.smtp.offers import Offers, offers_in
from mtad.smtp.reply import NotSmtp, Reply, ReplyReader
from mtad.smtp.results import Accepted, Lost, Refused, Result, Stage, TooLate
from mtad.smtp.waits import WAITS

# A chunk is sent together with MAIL and RCPT while it is small, and only on a session that
# has carried a message at most so many seconds ago: were an idle session closed meanwhile,
# or strangers turned away at MAIL without a word, the whole message would be in doubt,
# where two round trips make it no attempt, or one that is safe to repeat.
MOST_TOGETHER = 64 * 1024
QUIET = 2.0

# How servers say that a session was idle for too long, with 421.
_IDLE = re.compile(r"421 (?:4\.4\.[12]\b|.*\b(?:idle|time[- ]?out|timed out)\b)", re.IGNORECASE)

# An attribute of an Enum is looked up by its metaclass, 0.1 µs each time.
_MAIL, _RCPT, _DATA, _DOT = Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT

_Meaning = Callable[["Client", Stage, Reply, datetime], None]


class Client:
    """The dialogue with one server; `host` is how results name it."""

    def __init__(
        self,
        hostname: str,
        host: str,
        *,
        try_tls: bool,
        login: tuple[str, str] | None = None,
        ignored: Collection[str] = (),
    ) -> None:
        """`login`: name and password, which are not said without TLS where TLS is to be tried.

        `ignored`: extensions that are not used although the server offers them.
        """
        self.host = host
        self.number = 0  # whoever has many of them may number them
        self.usable = True
        self.heard = 0  # replies so far
        self.data_at = 0.0  # when DATA or BDAT was last written, on the clock of `take`
        self.wants_tls = False
        self.tls = False
        self.offers = Offers()
        self.body: bytes | None = None
        self.result: Result | None = None
        self._hostname = hostname
        self._try_tls = try_tls
        self._login = login
        self._ignored = ignored
        self._reader = ReplyReader()
        self._commands: deque[tuple[Stage, bytes]] = deque()  # not written yet
        self._awaited: deque[Stage] = deque()  # written, not answered yet
        self._refusal: Refused | None = None  # the first of this message
        self._message = b""
        self._data_by = inf
        self._dot_at: datetime | None = None
        self._taken = 0.0  # when the shell last asked for what to write
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
        self.offers = Offers()
        self._commands.append((Stage.EHLO, encode.ehlo(self._hostname)))

    def begin(
        self, return_path: str, recipient: str, message: bytes, data_by: float, safe_from: int | None = None
    ) -> None:
        """Hand over one message; DATA is written at `data_by` at the latest (the clock of `take`), or never.

        ValueError, and nothing changes, when it cannot be said in SMTP. What the server
        cannot take by its own words is refused here, in its name, without asking it.
        `safe_from`: as in encode.data.
        """
        offers = self.offers
        wire = (encode.chunk if offers.chunking else encode.data)(message, safe_from)
        utf8 = not (recipient.isascii() and return_path.isascii())
        eight_bit = utf8 or not message[:safe_from].isascii()
        size = len(message) if offers.size else None
        mail = encode.mail(return_path, size=size, eight_bit=eight_bit, utf8=utf8)
        rcpt = encode.rcpt(recipient)
        if refusal := offers.refusal(len(message), utf8=utf8, eight_bit=eight_bit):
            code, enhanced, why = refusal
            self.result = Refused(_MAIL, code, enhanced, f"{code} {enhanced} not sent: {why}", self.host)
            return
        self._message = wire
        self._data_by = data_by
        self._heard_before = self.heard
        if self._open:
            self._commands.append((Stage.RSET, encode.RSET))
        last = (_DOT, encode.bdat(len(wire))) if offers.chunking else (_DATA, encode.DATA)
        self._commands.extend(((_MAIL, mail), (_RCPT, rcpt), last))

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
        before, self._taken = self._taken, now
        if not self._commands:
            return b""
        fresh = not self._awaited
        if now > self._data_by and fresh:
            self._commands.clear()
            self._end(TooLate(self.host))
            return b""
        out = b""
        pipelining = self.offers.pipelining
        while self._commands and (pipelining or not self._awaited):
            stage, command = self._commands.popleft()
            if stage is _DOT and self._awaited and not (fresh and self._goes_together(now - before)):
                self._commands.append((stage, command))
                break
            self._awaited.append(stage)
            out += command
            if stage is _DATA or (stage is _DOT and not self._refusal):
                self._data_by = inf
                self.data_at = now
                if stage is _DOT:
                    self.body = self._message
        return out

    def _goes_together(self, quiet: float) -> bool:
        """Whether a chunk may be written with MAIL and RCPT, `quiet` seconds after we heard of the server."""
        # After a refused recipient we look first: the next may be refused too, and what
        # a server does that refuses RSET must not decide where this message goes.
        return self._served and quiet <= QUIET and not self._open and len(self._message) <= MOST_TOGETHER

    def closed(self, why: str = "the server closed the connection") -> None:
        """The connection is gone."""
        unheard = self.heard == self._heard_before and self.stage is _MAIL and self._dot_at is None
        if self._served and unheard:
            # It closed an idle session just when we spoke. A fresh session that is
            # closed so is an attempt, or a server that does it always would get us to
            # dial for ever.
            self._over()
            return
        self.broke(why)

    def broke(self, why: str) -> None:
        """Nothing more will be understood on this connection."""
        stage = self.stage
        self.usable = False
        if stage is None or self.result is not None:
            return
        if stage is Stage.RSET:
            self._over()
        else:
            self._end(self._refusal or self._lost(stage, f"{why} while {WAITS[stage].phrase}"))

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
        stage = self._awaited.popleft()
        if self.body is not None and stage is _DOT:
            self._on_early_answer(reply)
            return
        self.heard += 1
        if reply.code == 421:
            self._on_421(stage, reply)
            return
        self._MEANING[stage][reply.code // 100 - 2](self, stage, reply, at)
        if self._refusal and not self._awaited and not self._commands:
            self._end(self._refusal)

    def _on_421(self, stage: Stage, reply: Reply) -> None:
        """It closes the session, wherever it says so (RFC 5321 section 3.8)."""
        first = self.heard == self._heard_before + 1
        if stage is Stage.RSET or (self._served and first and _IDLE.match(reply.text)):
            self._over()
            return
        self.usable = False
        self._end(self._refusal or self._refused(stage, reply))

    def _good(self, stage: Stage, _reply: Reply, _at: datetime) -> None:
        """Go on: what comes next was written already, or stands in the queue of commands."""
        if stage is _MAIL:
            self._open = True

    def _refuse(self, stage: Stage, reply: Reply, _at: datetime) -> None:
        """The message will not go; nothing more is said about it that is not written yet."""
        # The answer to the final dot clears the server's buffers (RFC 5321 section 4.1.1.4), a
        # refused chunk need not: with no recipient, MAIL stays in force.
        self._open = stage is not _DOT or self.offers.chunking
        self._refusal = self._refusal or self._refused(stage, reply)
        self._commands.clear()

    def _greeted(self, _stage: Stage, _reply: Reply, _at: datetime) -> None:
        self._commands.append((Stage.EHLO, encode.ehlo(self._hostname)))

    def _ready(self, _stage: Stage, reply: Reply, _at: datetime) -> None:
        self.offers = Offers() if self._helo else offers_in(reply, self._ignored)
        if self._try_tls and not self.tls and self.offers.starttls:
            self._commands.append((Stage.STARTTLS, encode.STARTTLS))
        elif self._login:
            self._log_in(*self._login)

    def _log_in(self, name: str, password: str) -> None:
        if self._try_tls and not self.tls:
            why = "the server offers no TLS, without which no password is said"
        elif not self.offers.auth_plain:
            why = "the server does not offer AUTH PLAIN"
        else:
            self._commands.append((Stage.AUTH, encode.auth_plain(name, password)))
            return
        self.usable = False
        self._end(Lost(Stage.AUTH, why, self.host))

    def _ask_again(self, stage: Stage, reply: Reply, _at: datetime) -> None:
        """EHLO is refused for good: it may know HELO only."""
        if self._helo:
            self._turned_away(stage, reply, _at)
            return
        self._helo = True
        self._commands.append((Stage.EHLO, encode.helo(self._hostname)))

    def _turned_away(self, stage: Stage, reply: Reply, _at: datetime) -> None:
        """The session does not come about."""
        self.usable = False
        self._end(self._refused(stage, reply))

    def _shake_hands(self, _stage: Stage, _reply: Reply, _at: datetime) -> None:
        self.wants_tls = True

    def _in_clear(self, _stage: Stage, _reply: Reply, _at: datetime) -> None:
        """TLS is opportunistic, but for who has a password to say."""
        if self._login:
            self._log_in(*self._login)

    def _worn_out(self, _stage: Stage, _reply: Reply, _at: datetime) -> None:
        """It could not even forget the message before; the next one is told nothing by this."""
        self._over()

    def _go_ahead(self, _stage: Stage, _reply: Reply, _at: datetime) -> None:
        """To DATA."""
        if self._refusal:
            # RFC 2920 section 3.1: it wants a message for nobody. An empty one gets it
            # back to commands; whatever it says to that, the refusal stands.
            self._commands.append((_DOT, encode.END_OF_DATA))
        else:
            self.body = self._message
            self._awaited.append(_DOT)

    def _taken_over(self, stage: Stage, reply: Reply, at: datetime) -> None:
        """To the final dot, or to the last chunk."""
        self._open = False
        if self._refusal:
            return
        if self._dot_at is None:
            self._senseless(stage, reply, at)
        else:
            self._end(Accepted(reply.text, self._dot_at, at, self.host))

    def _goodbye(self, _stage: Stage, _reply: Reply, _at: datetime) -> None:
        self.usable = False

    def _senseless(self, stage: Stage, reply: Reply, _at: datetime) -> None:
        """An answer without a meaning here: it and we are not at the same place of the dialogue."""
        self.usable = False
        self._end(self._refusal or self._lost(stage, f"the server answered {reply.text!r} to {stage.value}"))

    def _on_early_answer(self, reply: Reply) -> None:
        """It has heard enough of the message. We cannot stop in the middle of one, so the session ends."""
        self._awaited.clear()
        self.usable = False
        if reply.code >= 400:
            self._end(self._refusal or self._refused(Stage.BODY, reply))
        else:
            why = f"the server said {reply.text!r} in the middle of the message"
            self._end(self._refusal or self._lost(Stage.BODY, why))

    # The states: what an answer means in each, by its first digit 2, 3, 4 or 5 (RFC 5321
    # section 4.2.1). 421 is the same everywhere (_on_421), an answer before the end of the
    # message _on_early_answer.
    _MEANING: ClassVar[Mapping[Stage, tuple[_Meaning, _Meaning, _Meaning, _Meaning]]] = {
        Stage.BANNER: (_greeted, _senseless, _turned_away, _turned_away),
        Stage.EHLO: (_ready, _senseless, _turned_away, _ask_again),
        Stage.STARTTLS: (_shake_hands, _senseless, _in_clear, _in_clear),
        Stage.AUTH: (_good, _senseless, _turned_away, _turned_away),
        Stage.RSET: (_good, _worn_out, _worn_out, _worn_out),
        Stage.MAIL: (_good, _senseless, _refuse, _refuse),
        Stage.RCPT: (_good, _senseless, _refuse, _refuse),
        Stage.DATA: (_senseless, _go_ahead, _refuse, _refuse),
        Stage.DOT: (_taken_over, _senseless, _refuse, _refuse),
        Stage.QUIT: (_goodbye, _goodbye, _goodbye, _goodbye),
    }

    # How things end

    def _refused(self, stage: Stage, reply: Reply) -> Refused:
        return Refused(stage, reply.code, reply.enhanced, reply.text, self.host)

    def _lost(self, stage: Stage, why: str) -> Lost:
        """In doubt as soon as the last bytes were handed over, whatever answer we still waited for."""
        return Lost(stage if self._dot_at is None else _DOT, why, self.host)

    def _over(self) -> None:
        """A session that had served is worn out before it was told of the next message."""
        self.usable = False
        self._end(TooLate(self.host))

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
        self._served = self._served or self.heard > self._heard_before
