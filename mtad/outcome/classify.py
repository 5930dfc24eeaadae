"""What came of an attempt → what it means for the job and for the contact. Pure.

The code decides between later (4xx) and never (5xx); the category, by words and
enhanced code, decides whom it is about. Two things hold whatever a server writes:
before RCPT, and at 421, nothing is ever about the recipient; and only a permanent
failure of scope recipient can suppress.
"""

import re
from typing import assert_never

from mtad.outcome.kinds import Bounced, Deferred, Delivered, InDoubt, Outcome, Scope
from mtad.outcome.texts import CATEGORIES, DETAILS, SUBJECTS, TEXTS
from mtad.smtp.results import Accepted, Lost, Refused, Result, Stage, TooLate

# "Try again in N minutes" is obeyed within these, in seconds: below, we would hammer
# a server that means well; above, a mail would lie for longer than any retry.
LEAST_AFTER = 60.0
MOST_AFTER = 6 * 3600.0

_AFTER = re.compile(
    r"(?:\b(?:re)?try|\bagain|\bwait|\bdelay(?:ed)?|\bback|gr[ae]y-?listed)\b[^.;]{0,60}?\b(\d{1,6})\s*"
    r"(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)\b",
    re.IGNORECASE,
)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}

_SESSION = frozenset((Stage.CONNECT, Stage.BANNER, Stage.EHLO, Stage.STARTTLS, Stage.TLS, Stage.RSET, Stage.QUIT))


def classify(result: Result) -> Outcome:
    """The outcome of an attempt. TooLate was none, the caller begins again: ValueError."""
    match result:
        case Accepted():
            return Delivered(result.text, result.dot_at, result.at)
        case Lost(stage=Stage.DOT):
            return InDoubt(result.why)
        case Lost():
            return Deferred(Scope.DESTINATION, "connection", result.why)
        case Refused():
            return _refusal(result)
        case TooLate():
            raise ValueError("nothing was attempted: begin again")
        case _:
            assert_never(result)


def _refusal(refused: Refused) -> Deferred | Bounced:
    name = category_of(refused)
    scope = CATEGORIES[name].scope
    # RFC 5321 section 4.5.3.1.10: 552 to RCPT may mean "too many recipients", to be
    # treated as temporary. Only where code or text say what it means is it final.
    final = refused.code >= 500 and not (refused.code == 552 and name == "too_many_recipients")
    if final:
        # 550 with 4.1.1: this server is not sure itself, so nobody is suppressed for it.
        suppress = CATEGORIES[name].suppress and not refused.enhanced.startswith("4")
        return Bounced(scope, name, refused.text, suppress=suppress)
    if refused.code == 421 or refused.stage in _SESSION:
        scope = Scope.DESTINATION
    return Deferred(scope, name, refused.text, seconds_asked_for(refused.text))


def category_of(refused: Refused) -> str:
    """A key of CATEGORIES; never one of scope recipient when the recipient was not named yet."""
    name = _named(refused)
    if CATEGORIES[name].scope is not Scope.RECIPIENT:
        return name
    if refused.code == 421 or refused.stage in _SESSION:
        return "session_refused"
    if refused.stage is Stage.MAIL:
        return "sender_rejected" if refused.code >= 500 else "server_trouble"
    return name


def _named(refused: Refused) -> str:
    detail = refused.enhanced[2:]
    by_code = DETAILS.get(detail)
    # Code and words agree: what else stands in the text, like the address of an
    # anti-spam help page, does not matter.
    if by_code and by_code in TEXTS and TEXTS[by_code].search(refused.text):
        return by_code
    for name, words in TEXTS.items():
        if words.search(refused.text):
            # "5.1.7 Sender address invalid": words like "address invalid" name nobody, the code does.
            blames = by_code and CATEGORIES[name].scope is Scope.RECIPIENT is not CATEGORIES[by_code].scope
            return by_code if by_code and blames else name
    if by_code:
        return by_code
    if by_subject := SUBJECTS.get(detail.partition(".")[0]):
        return by_subject
    return _by_place(refused)


def _by_place(refused: Refused) -> str:
    """When neither code nor words say anything."""
    if refused.stage in _SESSION or refused.code == 421:
        return "session_refused"
    if 500 <= refused.code <= 504 or refused.code == 555:
        return "protocol_error"
    match refused.stage:
        case Stage.RCPT:
            return "too_many_recipients" if refused.code == 552 else "recipient_refused"
        case Stage.MAIL:
            return "sender_rejected" if refused.code >= 500 else "server_trouble"
        case _:
            return "policy" if refused.code >= 500 else "server_trouble"


def seconds_asked_for(text: str) -> float | None:
    """The delay that a reply asks for, within bounds; None when it names none."""
    match = _AFTER.search(text)
    if match is None:
        return None
    return min(max(int(match[1]) * _UNITS[match[2][0].lower()], LEAST_AFTER), MOST_AFTER)
