"""How a lane wants its servers spoken to: patience, and what of TLS. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache

import msgspec

from mtad.base.section import seconds
from mtad.base.shape import Shape
from mtad.smtp.results import Stage
from mtad.smtp.waits import WAITS

# The knobs that say how long each stage may take.
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


class Tls(StrEnum):
    """What is asked of a server, in KumoMTA's words. Insecure: of the certificate nothing is."""

    OPPORTUNISTIC_INSECURE = "OpportunisticInsecure"
    """Encrypted where that works, else in clear."""
    REQUIRED_INSECURE = "RequiredInsecure"
    """Never in clear."""
    REQUIRED = "Required"
    """Never in clear, and only to a server whose certificate names its host and comes from an authority."""
    DISABLED = "Disabled"
    """In clear, even where TLS is offered."""
    MTA_STS = "MTA-STS"
    """REQUIRED, by the policy of the receiving domain (RFC 8461) and not by the configuration."""

    @property
    def verified(self) -> bool:
        """Whether the certificate counts."""
        return self in (Tls.REQUIRED, Tls.MTA_STS)


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """For every session that is opened under them."""

    timeouts: Mapping[Stage, float] = {}  # seconds; stages that are not here have those of WAITS
    tls: Tls = Tls.OPPORTUNISTIC_INSECURE
    ignored: tuple[str, ...] = ()  # extensions that are not used although they are offered
    remember_broken_tls: float = 3 * 86400.0  # seconds for which a server whose TLS is broken gets mail in clear

    def patience(self) -> dict[Stage, float]:
        """Seconds for every stage."""
        return {stage: self.timeouts.get(stage, wait.seconds) for stage, wait in WAITS.items()}


@lru_cache(maxsize=64)  # lanes under the same tables have the same Shape; the tail opens lanes all the time
def terms_of(shape: Shape) -> Terms:
    """How to speak to the servers of a lane."""
    return Terms(
        timeouts={stage: seconds(getattr(shape, knob)) for stage, knob in _KNOBS.items()},
        tls=Tls(shape.enable_tls),
        ignored=shape.ignore_extensions,
        remember_broken_tls=seconds(shape.remember_broken_tls),
    )
