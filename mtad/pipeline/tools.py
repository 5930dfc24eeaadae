"""What all lanes of a worker share."""

from collections.abc import Callable

import msgspec

from mtad.base.clock import Clock
from mtad.base.db import Pool
from mtad.base.retry import Retries
from mtad.outcome.automation import Automation
from mtad.outcome.classify import Classifier
from mtad.pipeline.allowances import Allowances
from mtad.pipeline.beginner import Beginner
from mtad.pipeline.dials import Dials
from mtad.pipeline.providers import Providers
from mtad.pipeline.sessions import Sessions
from mtad.pipeline.signer import Signer
from mtad.pipeline.sources import Sources
from mtad.pipeline.watchdog import Watchdog
from mtad.queue.settle import Settler
from mtad.wire.session import Dialer


class Tools(msgspec.Struct, frozen=True):
    """Made once by the pipeline; every lane works with them."""

    pool: Pool
    clock: Clock
    dialer: Dialer
    sessions: Sessions
    dials: Dials
    providers: Providers
    sources: Sources
    allowances: Allowances
    signer: Signer
    beginner: Beginner
    settler: Settler
    automation: Automation
    retries: Retries
    watchdog: Watchdog
    classify: Classifier
    luck: Callable[[], float]  # in [0, 1); spreads the retries
