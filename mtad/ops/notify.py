"""Telling systemd how we are: sd_notify(3), without its library. Silent when nobody asked."""

import os
import socket
from collections.abc import MutableMapping


class Notifier:
    """Sends states to the socket that systemd named in the environment.

    The variables are taken out of `environ`: workers must not report for us.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "0")
        wanted = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_period = int(microseconds) / 2e6 if wanted and microseconds.isdecimal() else 0.0
        """Seconds between two WATCHDOG=1: half of what systemd allows; 0 when it does not watch."""

    def tell(self, *states: str) -> None:
        """Send e.g. 'READY=1'. A supervisor that does not listen is no reason to stop."""
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            try:
                sock.connect(address)
                sock.sendall("\n".join(states).encode())
            except OSError:
                return
