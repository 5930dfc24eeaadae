r"""What the sink says at a stage of the dialogue instead of what is polite. Pure.

An answer is text: a line without CRLF, or several with \n between them. Its last word,
which may be all of it, may be one of these:

    CLOSE   then close the connection        RESET   then close it with RST
    HANG    then say and read nothing more   DRIP    an octet at a time
    RAW     as it is, without CRLF           SLOW    an octet every 30 s
    LATE=N  only after N seconds

The stages are commands, and what no command stands for: BANNER; TLS, where the handshake
should be; BODY, in the middle of a message (SLOW reads it so, here); DOT, after its end.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, repeat

import msgspec

STAGES = (
    "BANNER", "EHLO", "HELO", "STARTTLS", "TLS", "AUTH", "MAIL", "RCPT", "DATA", "BODY", "DOT", "RSET", "QUIT",
)  # fmt: skip
WORDS = ("CLOSE", "RESET", "HANG", "DRIP", "RAW", "SLOW")

# What servers do wrong, by the name that an operator gives it.
FAULTS = {
    "4xx": "450 4.0.0 later",
    "5xx": "550 5.0.0 never",
    "421": "421 4.0.0 bye CLOSE",
    "close": "CLOSE",
    "reset": "RESET",
    "hang": "HANG",
    "slow": "250 2.0.0 at last, but octet by octet SLOW",
    "garbage": "garbage",
    "long": "250 " + "x" * 2000,
}
POLITE = "polite"

_FAULT = re.compile(r"(?P<stage>\w+):(?P<what>.+?)(?:\*(?P<times>\d+))?", re.DOTALL)
_REPLY = re.compile(rf"[2-5]\d\d[ -].*|(?:.* )?(?:{'|'.join(WORDS)}|LATE=\d+)", re.DOTALL)


class Answer(msgspec.Struct, frozen=True):
    """What is said, after how many seconds, and which of WORDS comes of it."""

    text: str
    then: str = ""
    late: float = 0.0

    @property
    def wire(self) -> bytes:
        """Its octets."""
        return self.text.replace("\n", "\r\n").encode() + (b"\r\n" if self.text and self.then != "RAW" else b"")

    @property
    def agrees(self) -> bool:
        """It lets the client go on."""
        return self.text[:1] in ("2", "3")

    @property
    def refuses(self) -> bool:
        """It is a refusal; what is neither leaves the client in doubt."""
        return self.text[:1] in ("4", "5")

    @property
    def is_whole(self) -> bool:
        """The client hears it to its end."""
        return self.then in ("", "CLOSE", "DRIP")


def read_answer(text: str) -> Answer:
    """An answer as it is written in a script."""
    said, _, last = text.rpartition(" ")
    if last.startswith("LATE="):
        return Answer(said, late=float(last[5:]))
    return Answer(said, last) if last in WORDS else Answer(text)


class Script:
    """What is said at each stage, first come first served over all connections; then the sink is polite.

    An answer is a name of FAULTS, `polite`, or a text as above. ValueError for a stage that is none.
    """

    def __init__(self, script: Mapping[str, Iterable[str]] | None = None) -> None:
        self._turns = {stage.upper(): iter(answers) for stage, answers in (script or {}).items()}
        if unknown := set(self._turns) - set(STAGES):
            raise ValueError(f"{unknown.pop()!r} is none of the stages {' '.join(STAGES)}")

    def take(self, stage: str) -> Answer | None:
        """What to say this time; None: what is polite."""
        said = next(self._turns.get(stage, iter(())), POLITE)
        return None if said == POLITE else read_answer(FAULTS.get(said, said))


def read_faults(texts: Iterable[str]) -> Mapping[str, Iterator[str]]:
    """A script of `STAGE:FAULT`, always, or `STAGE:FAULT*N`, N times; those of a stage one after the other.

    FAULT is a name of FAULTS, `polite`, or an answer as it is said. ValueError names what cannot be read.
    """
    script: dict[str, Iterator[str]] = {}
    for text in texts:
        match = _FAULT.fullmatch(text)
        if match is None or match["stage"].upper() not in STAGES:
            raise ValueError(f"{text!r}: write STAGE:FAULT, where the stage is one of {' '.join(STAGES).lower()}")
        what, times = match["what"], match["times"]
        if what not in (*FAULTS, POLITE) and not _REPLY.fullmatch(what):
            raise ValueError(f"{text!r}: {what!r} is none of {' '.join(FAULTS)} {POLITE}, and no reply of SMTP")
        turns = repeat(what) if times is None else repeat(what, int(times))
        script[match["stage"].upper()] = chain(script.get(match["stage"].upper(), ()), turns)
    return script
