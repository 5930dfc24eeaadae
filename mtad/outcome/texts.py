"""What receiving servers mean: readings, and the codes and words by which they are known. Pure data.

A reading is finer than the category that is written down: categories carry the names of
the field (KumoMTA's, and PowerMTA's before it), with a few of ours where those name nothing.

Texts vary by server and year, codes by administrator; so both are asked. Where they
disagree the reading that does not blame the recipient wins: a person wrongly
suppressed is lost for good, an address wrongly kept is tried once more.
"""

import re
from collections.abc import Mapping

import msgspec

from mtad.outcome.kinds import Scope


class Reading(msgspec.Struct, frozen=True):
    """What a reply means; `suppress` only where the mailbox will not come back."""

    category: str
    scope: Scope
    suppress: bool = False


READINGS: Mapping[str, Reading] = {
    # about the recipient
    "no_such_user": Reading("InvalidRecipient", Scope.RECIPIENT, suppress=True),
    "no_such_domain": Reading("BadDomain", Scope.RECIPIENT, suppress=True),
    "inactive_mailbox": Reading("InactiveMailbox", Scope.RECIPIENT, suppress=True),
    "bad_address": Reading("RecipientRefused", Scope.RECIPIENT),
    "recipient_refused": Reading("RecipientRefused", Scope.RECIPIENT),
    "mailbox_full": Reading("QuotaIssues", Scope.MAILBOX),
    "mailbox_busy": Reading("RateLimited", Scope.MAILBOX),
    # about us
    "blocklisted": Reading("SpamBlock", Scope.SOURCE),
    "bad_reputation": Reading("SpamBlock", Scope.SOURCE),
    "bad_reverse_dns": Reading("BadConfiguration", Scope.SOURCE),
    "authentication_failed": Reading("AuthenticationFailed", Scope.SENDER),
    "sender_rejected": Reading("InvalidSender", Scope.SENDER),
    # about what we send
    "spam_content": Reading("SpamContent", Scope.MESSAGE),
    "virus": Reading("VirusRelated", Scope.MESSAGE),
    "attachment": Reading("ProhibitedAttachment", Scope.MESSAGE),
    "too_large": Reading("ContentRelated", Scope.MESSAGE),
    "bad_content": Reading("ContentRelated", Scope.MESSAGE),
    # about their rules
    "rate_limited": Reading("RateLimited", Scope.POLICY),
    "greylisted": Reading("Greylisted", Scope.POLICY),
    "policy": Reading("PolicyRelated", Scope.POLICY),
    # about them
    "relaying_denied": Reading("RelayDenied", Scope.DESTINATION),
    "mail_loop": Reading("RoutingErrors", Scope.DESTINATION),
    "routing": Reading("RoutingErrors", Scope.DESTINATION),
    "server_trouble": Reading("TransientFailure", Scope.DESTINATION),
    "session_refused": Reading("BadConnection", Scope.DESTINATION),
    "connection": Reading("NoAnswerFromHost", Scope.DESTINATION),
    # about the way we talk
    "too_many_recipients": Reading("TooManyRecipients", Scope.PROTOCOL),
    "tls_required": Reading("TlsRequired", Scope.PROTOCOL),
    "login_required": Reading("LoginRequired", Scope.PROTOCOL),
    "not_supported": Reading("ProtocolErrors", Scope.PROTOCOL),
    "protocol_error": Reading("ProtocolErrors", Scope.PROTOCOL),
}


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE)


_WHO = r"(?:user|recipient|mailbox|account|address|addressee|inbox|customer|person)\b"

# In this order; the first that matches names the reading. What blames us stands
# before what blames the recipient, because both words often stand in one text.
TEXTS: Mapping[str, re.Pattern[str]] = {
    "mail_loop": _words(r"too many hops", r"\bmail loop", r"\bloops back\b", r"routing loop", r"hop count"),
    "too_many_recipients": _words(r"too many recipients"),
    "tls_required": _words(
        r"must issue a starttls", r"starttls (?:is )?required", r"(?:tls|encryption) (?:is )?required"
    ),
    "login_required": _words(r"authentication (?:is )?required", r"must authenticate", r"please log ?in"),
    "too_large": _words(
        r"message (?:size|length)[^.]{0,40}(?:exceed|limit|large)",
        r"message (?:is )?too (?:large|big)",
        r"exceeds? [^.]{0,40}(?:message|maximum|fixed) [^.]{0,20}size",
    ),
    "bad_content": _words(r"more than one from", r"\brfc ?5322\b", r"(?:bad|invalid|missing|malformed) header"),
    "virus": _words(
        r"\bvirus\b",
        r"malware",
        r"\binfected\b",
    ),
    "attachment": _words(
        r"(?:attachment|file type|file name|extension)s?[^.]{0,30} (?:not allowed|blocked|forbidden|prohibited|banned)",
        r"(?:prohibited|banned|forbidden|illegal|executable) (?:attachment|file)",
    ),
    "authentication_failed": _words(
        r"dmarc",
        r"\bdkim\b",
        r"\bspf\b",
        r"sender policy framework",
        r"unauthenticated",
        r"sender authentication",
        r"not authori[sz]ed to send",
        r"authentication (?:checks?|results?|failed|failure)",
        r"message was not signed",
    ),
    "sender_rejected": _words(
        r"sender address rejected",
        r"sender (?:was |is )?(?:rejected|refused|denied|blocked)",
        r"sender verif",
        r"\bsender (?:is )?not (?:in|on|allowed)\b",
        r"(?:sender|from) domain",
        r"domain of (?:the )?sender",
        r"invalid sender",
        r"\bsender(?:'s)? (?:address|mailbox|account|domain)",
        r"\benvelope[ -](?:sender|from)\b",
        r"\bfrom address\b",
        r"\byour (?:e-?mail )?address\b",
        # Said at RCPT by servers that wait for it; "Host not found" there is our own name.
        r"\b(?:helo|ehlo)\b",
        r"return[ -]path",
    ),
    "greylisted": _words(r"gr[ae]y-?list", r"postgrey"),
    "bad_reverse_dns": _words(
        r"reverse (?:dns|name|host)", r"\bptr\b", r"\brdns\b", r"\bfcrdns\b", r"cannot find your (?:reverse )?hostname"
    ),
    "blocklisted": _words(
        r"spamhaus",
        r"spamcop",
        r"\bsorbs\b",
        r"barracuda",
        r"uceprotect",
        r"\b(?:dns|r)bls?\b",
        r"(?:block|black|deny|white|allow)[ -]?list",
        r"blocked using",
        r"\bS31[45]0\b",
        r"\bBL\d\d\b",
        r"\b(?:ip|host|server|network|client)\b[^.]{0,60}\b(?:blocked|banned|blacklisted|listed)\b",
        r"banned send",
    ),
    "mailbox_busy": _words(
        r"receiving mail (?:too quickly|at a rate)", r"\brecipient has exceeded\b", r"mailbox (?:is )?(?:busy|locked)\b"
    ),
    "rate_limited": _words(
        r"rate[ -]?limit",
        r"throttl",
        r"too (?:fast|quickly)",
        r"\bunusual rate\b",
        r"\bat a rate that\b",
        r"too (?:many|much) (?:connections?|messages?|mails?|sessions?|concurrent|traffic|requests?)",
        r"(?:connection|message|sending|daily|hourly)[^.]{0,30} (?:limit|rate|quota|frequency)"
        r"[^.]{0,20}(?:exceed|reach)",
        r"exceed(?:s|ed|ing)?[^.]{0,40} (?:connections?|messages?|rate|sending)\b",
        r"\[TSS?\d\d\]",
        r"unexpected volume",
        r"server (?:is )?(?:too )?busy",
        r"slow down",
        r"send(?:ing)? limit",
        r"maximum number of [^.]{0,30}(?:connections|messages)",
    ),
    "bad_reputation": _words(r"reputation", r"user complaints", r"complaint rate", r"poor (?:sender )?score"),
    "spam_content": _words(
        r"\bspam",
        r"unsolicited",
        r"\bjunk\b",
        r"bulk mail",
        r"phish",
        r"suspicious",
        r"\b(?:surbl|uribl)\b",
        r"message content",
        r"content (?:was |is )?(?:rejected|not acceptable)",
        r"\bHVU:B",
        r"likely not wanted",
    ),
    "relaying_denied": _words(
        r"relay(?:ing)? (?:access )?(?:is )?(?:denied|prohibited|not (?:allowed|permitted))",
        r"unable to relay",
        r"\brcpthosts\b",
        r"(?:not permitted|not allowed|refus\w+|do not|don't) (?:to )?relay",
    ),
    "mailbox_full": _words(
        r"(?:mailbox|inbox|account|storage|disk)[^.]{0,20} (?:is )?full\b",
        r"over ?quota",
        r"quota[^.]{0,20}exceed",
        r"exceed[^.]{0,30} (?:quota|storage|mailbox)",
        r"out of (?:storage|space|disk)",
        r"insufficient (?:mailbox |user )storage",
        r"not enough (?:mailbox )?(?:space|storage)",
    ),
    "inactive_mailbox": _words(
        _WHO + r".{0,80}?\b(?:disabled|inactive|not active|suspended|deactivated|discontinued|no longer"
        r"|expired|closed|terminated|locked)\b",
        r"(?:disabled|inactive|suspended|deactivated|closed) (?:e-?mail )?" + _WHO,
    ),
    "no_such_user": _words(
        r"(?:unknown|no such|invalid|non-?existent|unrecogni[sz]ed|bad destination) (?:local )?(?:e-?mail )?" + _WHO,
        r"(?:not a|no) (?:valid|known|local) " + _WHO,
        _WHO + r".{0,80}?\b(?:does(?:n't| not) (?:exist|have)|do not exist|not exist|(?:could )?not (?:be )?found"
        r"|(?:is |was )?(?:unknown|invalid|undeliverable|not (?:known|valid|here|listed)))\b",
        _WHO + r" (?:address )?rejected: (?:user )?(?:unknown|undeliverable|unverified)",
        r"that you tried to reach does not exist",
        r"no mailbox (?:here )?by that name",
        r"\bunrouteable address\b",
        r"mailbox (?:is )?unavailable",
        r"no one by that name",
        r"not our customer",
        # Microsoft 365 says so for recipients that are not in the tenant's directory.
        r"5\.4\.1 recipient address rejected: access denied",
    ),
    "no_such_domain": _words(
        r"(?:host|domain)(?: name)? [^.]{0,40}(?:not found|unknown|does not exist)", r"no such domain"
    ),
    "policy": _words(
        r"\bpolic(?:y|ies)\b",
        r"administrative",
        r"access denied",
        r"prohibit",
        r"restrict",
        r"not accept(?:ed|ing)? (?:for|mail from)",
        r"\bblocked\b",
        r"\brefused by\b",
    ),
    "protocol_error": _words(
        r"syntax error",
        r"bad sequence",
        r"unrecogni[sz]ed command",
        r"command not (?:implemented|recogni[sz]ed)",
        r"line (?:too )?long",
        r"bare (?:lf|cr|newline)",
        r"pipelining",
    ),
    "server_trouble": _words(
        r"temporar(?:y|ily) [^.]{0,30}(?:problem|failure|error|unavailable)",
        r"(?:internal|local|system) (?:server )?(?:error|problem)",
        r"shutting down",
        r"service (?:is )?(?:currently|temporarily) unavailable",
        r"unable to verify",
    ),
}

# RFC 3463 and its registry, subject.detail; the class says what the code says already.
DETAILS: Mapping[str, str] = {
    "1.0": "recipient_refused",
    "1.1": "no_such_user",
    "1.2": "no_such_domain",
    "1.3": "bad_address",
    "1.4": "bad_address",
    "1.6": "no_such_user",
    "1.7": "sender_rejected",
    "1.8": "sender_rejected",
    "1.9": "sender_rejected",
    "1.10": "no_such_user",
    "2.1": "inactive_mailbox",
    "2.2": "mailbox_full",
    "2.3": "too_large",
    "3.4": "too_large",
    "4.2": "session_refused",
    "4.6": "mail_loop",
    "4.14": "mail_loop",
    "5.3": "too_many_recipients",
    "6.3": "not_supported",
    "6.7": "not_supported",
    "7.8": "login_required",
    "7.10": "tls_required",
    "7.25": "bad_reverse_dns",
    "7.28": "rate_limited",
} | {f"7.{detail}": "authentication_failed" for detail in (20, 21, 22, 23, 24, 26, 27, 29, 30, 32)}

# When the detail says nothing.
SUBJECTS: Mapping[str, str] = {
    "1": "recipient_refused",
    "2": "recipient_refused",
    "3": "server_trouble",
    "4": "routing",
    "5": "protocol_error",
    "6": "bad_content",
    "7": "policy",
}
