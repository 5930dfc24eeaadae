"""Do received messages verify? dkimpy judges, with the public keys of the configuration for DNS.

dkimpy shares no code with mtad.dkim, so it is a witness and not an echo.
"""

import asyncio
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import dkim
import msgspec

from mtad.base.config import Config
from mtad.dkim.keys import dns_record, read_key

ONE_CLICK = frozenset({b"list-unsubscribe", b"list-unsubscribe-post"})

# So few are verified sooner than a second process is started.
_FEW = 50


class Verdict(msgspec.Struct, frozen=True):
    """`signed`: there is a signature, and each verifies. `one_click`: each covers both fields of RFC 8058 section 4."""

    signed: bool
    one_click: bool
    why: str  # what failed, or who signed


class Verifier(msgspec.Struct, frozen=True):
    """Verifies against TXT records by name, as DNS would answer. Can be sent to another process."""

    records: dict[str, str]

    @classmethod
    def from_config(cls, config: Config) -> "Verifier":
        """The records that the operator would publish; ConfigError when a key cannot be read."""
        return cls(
            {
                f"{one.selector}._domainkey.{one.domain}.".lower(): dns_record(read_key(config.path(one.key)))
                for one in config.dkim
            }
        )

    def verify(self, message: bytes) -> Verdict:
        """Judge one message; never raises for what stands in it."""
        signatures = sum(name.lower() == b"dkim-signature" for name, _ in dkim.DKIM(message).headers)
        one_click, signers = True, []
        for number in range(max(signatures, 1)):
            checked = dkim.DKIM(message)
            try:
                good = checked.verify(number, dnsfunc=self._answer)
            except dkim.DKIMException as error:
                return Verdict(signed=False, one_click=False, why=str(error) or type(error).__name__)
            if not good:
                return Verdict(signed=False, one_click=False, why="the signature does not match")
            one_click &= {name.lower() for name, _ in checked.signed_headers} >= ONE_CLICK
            signers.append(f"d={checked.domain.decode()}")
        return Verdict(signed=True, one_click=one_click, why=" ".join(signers))

    def verify_each(self, messages: Sequence[bytes]) -> list[Verdict]:
        """Judge many, about a millisecond each."""
        return [self.verify(message) for message in messages]

    def _answer(self, name: bytes, timeout: float = 5) -> bytes | None:
        del timeout
        record = self.records.get(name.decode("ascii", "replace").lower())
        return record.encode() if record else None


async def verify_all(verifier: Verifier, messages: Sequence[bytes], *, processes: int = 2) -> list[Verdict]:
    """Judge many in processes of their own, so that the loop goes on."""
    if len(messages) <= _FEW:
        return verifier.verify_each(messages)
    size = -(-len(messages) // (4 * processes))
    chunks = [messages[start : start + size] for start in range(0, len(messages), size)]
    loop = asyncio.get_running_loop()
    # Spawned: a copy of a process with running threads and an event loop may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        judged = await asyncio.gather(*(loop.run_in_executor(pool, verifier.verify_each, chunk) for chunk in chunks))
    return [verdict for chunk in judged for verdict in chunk]
