"""What the knobs of a lane mean for its sessions. Pure."""

from functools import lru_cache

from mtad.base.config import Shape, seconds
from mtad.smtp.results import Stage
from mtad.wire.terms import Terms, Tls

_KNOBS = {
    Stage.CONNECT: "connect_timeout",
    Stage.BANNER: "banner_timeout",
    Stage.EHLO: "ehlo_timeout",
    Stage.STARTTLS: "starttls_timeout",
    Stage.TLS: "starttls_timeout",
    Stage.MAIL: "mail_from_timeout",
    Stage.RCPT: "rcpt_to_timeout",
    Stage.DATA: "data_timeout",
    Stage.DOT: "data_dot_timeout",
    Stage.RSET: "rset_timeout",
    Stage.QUIT: "quit_timeout",
}


@lru_cache(maxsize=64)  # lanes under the same tables have the same Shape; the tail opens lanes all the time
def terms_of(shape: Shape) -> Terms:
    """How to speak to the servers of a lane."""
    return Terms(
        timeouts={stage: seconds(getattr(shape, knob)) for stage, knob in _KNOBS.items()},
        tls=Tls(shape.enable_tls),
        remember_broken_tls=seconds(shape.remember_broken_tls),
    )
