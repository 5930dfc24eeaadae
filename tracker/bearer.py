"""Tokens of servers that may POST events. Pure."""

import hmac
import re

from mtad.base.errors import ConfigError

# Whoever guesses one writes into everybody's score.
LEAST_TOKEN = 32

_LINE = re.compile(r"([a-z0-9][a-z0-9._-]{0,63}):([!-~]+)")


class EventKeys:
    """Which source a token stands for. Shows none of them in a repr."""

    __slots__ = ("_by_source",)

    def __init__(self, by_source: dict[str, bytes]) -> None:
        self._by_source = by_source

    @classmethod
    def parse(cls, text: str, source: str = "event keys") -> "EventKeys":
        """Lines `source:token`; ConfigError names the line, never the token."""
        found: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            stripped = line.strip()
            if not stripped or stripped.startswith("#"):
                continue
            match = _LINE.fullmatch(stripped)
            if not match:
                raise ConfigError(f"{source}: line {number}: write source:token, the source in lower case")
            if len(match[2]) < LEAST_TOKEN:
                raise ConfigError(f"{source}: line {number}: a token has at least {LEAST_TOKEN} characters")
            if match[1] in found:
                raise ConfigError(f"{source}: line {number}: source {match[1]} stands there twice")
            found[match[1]] = match[2].encode()
        if not found:
            raise ConfigError(f"{source}: there is no token in it")
        return cls(found)

    def source_of(self, authorization: str) -> str | None:
        """The source that an Authorization header proves, None for none; every token is compared, in constant time."""
        scheme, _, given = authorization.partition(" ")
        token = given.strip().encode("utf-8", "surrogateescape")
        proven = [name for name, known in self._by_source.items() if hmac.compare_digest(known, token)]
        return proven[0] if proven and scheme.lower() == "bearer" else None
