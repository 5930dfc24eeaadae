"""What came of an attempt → what it means for the job and for the contact. Pure.

The code decides between later (4xx) and never (5xx); the category, by words and
enhanced code, decides whom it is about. Three things hold whatever a server writes:
before MAIL nothing is ever said about a mail, so none ends there; before RCPT, and at
421, nothing is ever about the recipient; and only a permanent failure of scope
recipient can suppress.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import assert_never

from mtad.base.automation import Reply
from mtad.outcome.kinds import Action, Bounced, Deferred, Delivered, InDoubt, Outcome, Scope
from mtad.outcome.texts import DETAILS, READINGS, SUBJECTS, TEXTS
from mtad.smtp.results import Accepted, Lost, Refused, Result, Stage, TooLate

# "Try again in N minutes" is obeyed within these, in seconds: below, we would hammer
# a server that means well; above, a mail would lie for longer than any retry.
LEAST_AFTER = 60.0
MOST_AFTER = 6 * 3600.0

# A number of time, and before it, in the same sentence, what makes it a delay.
_TIME = re.compile(
    r"\b(\d{1,6}) ?(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)\b|\b(\d\d):([0-5]\d):([0-5]\d)\b", re.IGNORECASE
)
_DELAY = re.compile(r"\b(?:(?:re)?try|again|wait|delay(?:ed)?|back|gr[ae]y-?list\w*)\b[^.;]*$", re.IGNORECASE)
_BEFORE = 70
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}

# Read as far as this: servers may write what they like, and patterns take time.
_MOST_TEXT = 1000
_LONG_WORD = 14
_DIGIT = re.compile(r"\d")

# A refusal that we made ourselves (mtad/smtp): nobody's words, whatever they may look like.
OURS = re.compile(r"\d{3} (?:\d\.\d{1,3}\.\d{1,3} )?not sent:")

_SESSION = frozenset(
    (Stage.CONNECT, Stage.BANNER, Stage.EHLO, Stage.STARTTLS, Stage.TLS, Stage.AUTH, Stage.RSET, Stage.QUIT)
)


class Classifier:
    """Reads replies: an operator's own rows first, then what ships (texts.py)."""

    def __init__(self, own: Sequence[Reply] = ()) -> None:
        self._own = [(re.compile(one.regex, re.IGNORECASE), one.means) for one in own]
        # A server has few replies that differ in more than names. To judge one that is not
        # remembered takes 60 µs, mostly for looking for words that are not in it.
        self._reading = lru_cache(maxsize=4096)(self._read)

    def __call__(self, result: Result) -> Outcome:
        """The outcome of an attempt. TooLate was none, the caller begins again: ValueError."""
        match result:
            case Accepted():
                return Delivered(result.text, result.dot_at, result.at)
            case Lost(stage=Stage.DOT):
                return InDoubt(result.why)
            case Lost():
                return Deferred(Scope.DESTINATION, READINGS["connection"].category, result.why)
            case Refused():
                return self._refusal(result)
            case TooLate():
                raise ValueError("nothing was attempted: begin again")
            case _:
                assert_never(result)

    def reading_of(self, refused: Refused) -> str:
        """A key of READINGS; never one of scope recipient or mailbox when the recipient was not named yet."""
        return self._reading(refused.stage, refused.code, refused.enhanced, without_names(refused.text))

    def _refusal(self, refused: Refused) -> Deferred | Bounced:
        name = self.reading_of(refused)
        reading = READINGS[name]
        # A 5xx greeting turns the session away: another host, source or hour may do better, and
        # the mail that happened to be first in line is no more to blame than those behind it.
        # RFC 5321 section 4.5.3.1.10: 552 to RCPT may mean "too many recipients", to be
        # treated as temporary. Only where code or text say what it means is it final.
        many = refused.code == 552 and name == "too_many_recipients"
        if refused.code >= 500 and refused.stage not in _SESSION and not many:
            # 550 with 4.1.1: this server is not sure itself, so nobody is suppressed for it.
            suppress = reading.suppress and not refused.enhanced.startswith("4")
            return Bounced(reading.scope, reading.category, refused.text, suppress=suppress)
        return Deferred(reading.scope, reading.category, refused.text, seconds_asked_for(refused.text))

    def _read(self, stage: Stage, code: int, enhanced: str, text: str) -> str:
        own = () if OURS.match(text) else self._own
        name = next((means for words, means in own if words.search(text)), None) or _named(stage, code, enhanced, text)
        if READINGS[name].scope not in (Scope.RECIPIENT, Scope.MAILBOX):
            return name
        if code == 421 or stage in _SESSION:
            return "session_refused"
        if stage is Stage.MAIL:
            return "sender_rejected" if code >= 500 else "server_trouble"
        return name


def action_of(outcome: Deferred | Bounced) -> Action:
    """What follows for the mail and its lane. Only what is about our address or our rate concerns the lane."""
    ours = outcome.scope is Scope.SOURCE or (outcome.scope is Scope.POLICY and outcome.category == "RateLimited")
    match outcome:
        case Bounced():
            if outcome.suppress:
                return Action.SUPPRESS
            return Action.SUSPEND if ours else Action.BOUNCE
        case Deferred():
            return Action.SLOW if ours else Action.RETRY
        case _:
            assert_never(outcome)


def without_names(text: str) -> str:
    """A reply without mail addresses, whose words are the recipient's and not the server's, and without ids."""
    words = text[:_MOST_TEXT].split()
    return " ".join(
        [word for word in words if "@" not in word and (len(word) <= _LONG_WORD or not _DIGIT.search(word))]
    )


def _named(stage: Stage, code: int, enhanced: str, text: str) -> str:
    detail = enhanced[2:]
    by_code = DETAILS.get(detail)
    # Code and words agree: what else stands in the text, like the address of an
    # anti-spam help page, does not matter.
    if by_code and by_code in TEXTS and TEXTS[by_code].search(text):
        return by_code
    for name, words in TEXTS.items():
        if words.search(text):
            # "5.1.7 Sender address invalid": words like "address invalid" name nobody, the code does.
            blames = by_code and READINGS[name].scope is Scope.RECIPIENT is not READINGS[by_code].scope
            return by_code if by_code and blames else name
    if by_code:
        return by_code
    if by_subject := SUBJECTS.get(detail.partition(".")[0]):
        return by_subject
    return _by_place(stage, code)


def _by_place(stage: Stage, code: int) -> str:
    """When neither code nor words say anything."""
    if stage in _SESSION or code == 421:
        return "session_refused"
    if 500 <= code <= 504 or code == 555:
        return "protocol_error"
    match stage:
        case Stage.RCPT:
            return "too_many_recipients" if code == 552 else "recipient_refused"
        case Stage.MAIL:
            return "sender_rejected" if code >= 500 else "server_trouble"
        case _:
            return "policy" if code >= 500 else "server_trouble"


def seconds_asked_for(text: str) -> float | None:
    """The delay that a reply asks for, within bounds; None when it names none."""
    for match in _TIME.finditer(text, 0, _MOST_TEXT):
        if _DELAY.search(text, max(0, match.start() - _BEFORE), match.start()):
            number, unit, hours, minutes, secs = match.groups()
            if unit:
                asked = int(number) * _UNITS[unit[0].lower()]
            else:
                asked = int(hours) * 3600.0 + int(minutes) * 60.0 + int(secs)
            return min(max(asked, LEAST_AFTER), MOST_AFTER)
    return None


classify = Classifier()
"""With what ships alone."""
