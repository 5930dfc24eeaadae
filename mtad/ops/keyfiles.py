"""The key files as the operator has them: read once before anything starts."""

from pathlib import Path

from mtad.base.config import Config
from mtad.base.errors import ConfigError
from mtad.dkim.sign import Signer
from mtad.wire.session import Login
from tracker.bearer import EventKeys
from tracker.networks import Network, Networks, parse_networks
from tracker.tokens import Keys


def read_tracking_keys(path: Path) -> Keys:
    """The tracker's keys; ConfigError names the file and what is wrong with it."""
    try:
        return Keys.parse(path.read_text(encoding="ascii"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: tracking keys: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: tracking keys: is not a text file") from None


def read_networks(config: Config) -> Networks:
    """What the operator's files say of networks; ConfigError names the file and the line."""
    found: dict[str, tuple[Network, ...]] = {}
    for key in ("scanner_networks", "trusted_networks"):
        text, path = _text(config, key)
        found[key] = parse_networks(text, str(path), scoped=key == "scanner_networks")
    return Networks(found["scanner_networks"], found["trusted_networks"], config.tracker.trusted_proxies)


def read_event_keys(config: Config) -> EventKeys | None:
    """Who may POST events, None for nobody; ConfigError names the file and the line."""
    text, path = _text(config, "event_keys")
    return EventKeys.parse(text, str(path)) if config.tracker.event_keys else None


def read_logins(config: Config) -> dict[str, Login]:
    """By host:port of routes: who we are there. ConfigError names the file."""
    return {
        route.site: (route.username, read_password(config.path(route.password)))
        for route in config.route
        if route.username
    }


def read_password(path: Path) -> str:
    """A password from its file; ConfigError when there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path}: password: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: password: is not a text file") from None
    if len(lines) != 1 or not lines[0]:
        raise ConfigError(f"{path}: password: one line and nothing else")
    return lines[0]


def _text(config: Config, key: str) -> tuple[str, Path]:
    """A file that a key of [tracker] names, '' where it names none; ConfigError when it cannot be read."""
    named = getattr(config.tracker, key)
    path = config.path(named)
    if not named:
        return "", path
    try:
        return path.read_text(encoding="utf-8"), path
    except OSError as error:
        raise ConfigError(f"tracker.{key}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"tracker.{key}: {path}: is not a text file") from None


def require_keys(config: Config) -> None:
    """Read every key, so that a wrong one is one line of the supervisor and not one of each worker."""
    read_networks(config)
    read_event_keys(config)
    read_logins(config)
    for source in sorted({"", *(dkim.source for dkim in config.dkim)}):
        Signer.from_config(config, source)
    read_tracking_keys(config.path(config.tracker.keys))
