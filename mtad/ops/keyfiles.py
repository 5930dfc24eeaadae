"""The key files as the operator has them: read once before anything starts."""

from pathlib import Path

from mtad.base.config import Config
from mtad.base.errors import ConfigError
from mtad.dkim.sign import Signer
from tracker.tokens import Keys


def read_tracking_keys(path: Path) -> Keys:
    """The tracker's keys; ConfigError names the file and what is wrong with it."""
    try:
        return Keys.parse(path.read_text(encoding="ascii"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: tracking keys: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: tracking keys: is not a text file") from None


def require_keys(config: Config) -> None:
    """Read every key, so that a wrong one is one line of the supervisor and not one of each worker."""
    for source in sorted({"", *(dkim.source for dkim in config.dkim)}):
        Signer.from_config(config, source)
    read_tracking_keys(config.path(config.tracker.keys))
