"""What systemd is told: sd_notify(3), over the socket that it names in the environment."""

from __future__ import annotations

import contextlib
import os
import socket
import time


def notify(*states: str) -> None:
    """Send states such as `READY=1`; does nothing where systemd did not start the daemon."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        # systemd sees itself what it was not told; the daemon's work does not end for that.
        with contextlib.suppress(OSError):
            sock.connect(address)
            sock.send("\n".join(states).encode())


def reloading() -> None:
    """Say that the config is being read again; `notify("READY=1")` says that it was."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def watchdog_interval() -> float | None:
    """Seconds between two signs of life, half of what WatchdogSec= allows; None where it is off."""
    microseconds = os.environ.get("WATCHDOG_USEC")
    pid = os.environ.get("WATCHDOG_PID")
    if not microseconds or (pid and int(pid) != os.getpid()):
        return None
    return int(microseconds) / 2e6 or None
