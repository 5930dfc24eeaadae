"""How a lane wants its servers spoken to: patience, and what of TLS. Pure."""

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from mtad.smtp.results import Stage
from mtad.smtp.waits import WAITS


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


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """For every session that is opened under them."""

    timeouts: Mapping[Stage, float] = {}  # seconds; stages that are not here have those of WAITS
    tls: Tls = Tls.OPPORTUNISTIC_INSECURE
    remember_broken_tls: float = 3 * 86400.0  # seconds for which a server whose TLS is broken gets mail in clear

    def patience(self) -> dict[Stage, float]:
        """Seconds for every stage."""
        return {stage: self.timeouts.get(stage, wait.seconds) for stage, wait in WAITS.items()}
