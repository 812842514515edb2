"""Communicators and ranks by NCCL's RAS (reliability, availability, serviceability) network.

Each process of a job takes part in it since NCCL 2.24; one of them on each host listens. Protocol:
src/ras/client_support.cc and client.cc of NCCL.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr, field_validator

from collector.batch import Batch, Event, Severity
from collector.catalog import fabric
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read import processes
from plugins.fabric import _nccl_host, _nccl_json, _nccl_text
from plugins.fabric._nccl_monitor import Happened, Monitor
from plugins.fabric._nccl_status import (
    MISSING,
    OTHER,
    RESULTS,
    STATES,
    Communicator,
    Rank,
    Status,
    StatusError,
)

_PORT = 28028  # NCCL_RAS_ADDR
_HELLO, _LINE = "CLIENT PROTOCOL 2", 4096
_PIECES = 64  # of 64 KiB that are taken of the events at once
_LEG = 5  # seconds for which the RAS network waits for one process, its own default


class RasError(OSError):
    """What listens is no RAS of NCCL, or does not answer as one."""


class _Watched:
    """A connection on which RAS tells what happens to the processes of the job."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._monitor = Monitor()

    def read(self) -> list[Happened]:
        """Return what was told since the last time.

        Raises:
            OSError: The connection is gone.
        """
        found = []
        self.connection.settimeout(0)
        for _ in range(_PIECES):
            try:
                data = self.connection.recv(1 << 16)
            except BlockingIOError:
                break
            if not data:
                raise RasError("RAS has closed the connection")
            found += self._monitor.feed(data)
        return found


class NcclRas(Plugin):
    """Asks the RAS network of one job; ranks of other hosts count in the communicators' figures.

    A job's RAS listens on loopback, so a container needs the host's network to be seen.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (
        fabric.COMMUNICATORS,
        fabric.JOB_PROCESSES,
        fabric.RAS_TIMEOUTS,
        fabric.COMMUNICATOR_RANKS,
        fabric.COMMUNICATOR_RANKS_MISSING,
        fabric.COMMUNICATOR_OPERATIONS,
        fabric.RANK_STATE,
        fabric.RANK_RESULT,
        fabric.RANK_LAUNCHED,
    )

    target: str = Field(
        default=f"127.0.0.1:{_PORT}", description="host:port of the job's RAS (NCCL_RAS_ADDR)."
    )
    timeout: float = Field(
        default=15.0, gt=0, description="Seconds that one poll may take; a sick job takes 10."
    )
    max_bytes: int = Field(default=32 << 20, gt=0, description="Bytes of an answer at most.")
    root: Path = Field(default=Path("/"), description="Where `proc` of the host is.")

    _text: bool = PrivateAttr(default=False)
    _watched: _Watched | None = PrivateAttr(default=None)
    _watchable: bool = PrivateAttr(default=True)
    _wanted: frozenset[tuple[str, int]] = PrivateAttr(default=frozenset())
    _pids: dict[int, int] = PrivateAttr(default_factory=dict)

    @field_validator("target")
    @classmethod
    def _is_address(cls, target: str) -> str:
        host, _, port = target.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"{target!r} is no address: write host:port")
        return target

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Return one config where something listens on RAS's own port."""
        try:
            return [{}] if _PORT in processes.listening(Path("/")) else []
        except OSError:
            return []

    def poll(self, batch: Batch) -> None:
        """Ask for the status.

        Raises:
            OSError: Nothing answers, or not as RAS does.
        """
        status = self._ask()[1]
        here = {*_nccl_host.addresses(self.root), batch.host.key[0]}
        local = [
            (one, rank)
            for one in status.communicators
            for rank in one.ranks.values()
            if rank.host in here
        ]
        wanted = frozenset((one.id, rank.pid) for one, rank in local)  # a new job, the same pids
        if wanted != self._wanted:
            self._pids = _nccl_host.pids(self.root, {pid for _, pid in wanted}) if wanted else {}
            self._wanted = wanted
        self._add_job(batch, status)
        for one in status.communicators:
            _add_communicator(batch, one)
        for one, rank in local:
            self._add_rank(batch, one, rank)
        self._watch(batch)

    def close(self) -> None:
        """Close the connection for events."""
        if self._watched is not None:
            self._watched.connection.close()
            self._watched = None

    def record(self, folder: Path) -> None:
        """Save the answer and this host's addresses."""
        body, _, suffix = self._ask()
        path = folder / "input" / f"ras.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        net = Path("proc", "net")
        (folder / "input" / "root" / net).mkdir(parents=True, exist_ok=True)
        for name in ("fib_trie", "if_inet6"):
            if (self.root / net / name).exists():
                content = (self.root / net / name).read_bytes()
                (folder / "input" / "root" / net / name).write_bytes(content)

    def _watch(self, batch: Batch) -> None:
        """Add the events since the last poll; NCCL tells them since 2.29."""
        try:
            if self._watched is None and self._watchable:
                self._watched = self._subscribe()
                self._watchable = self._watched is not None
            happened = self._watched.read() if self._watched is not None else []
        except OSError as error:
            self.close()
            batch.failed(None, error)
            return
        for one in happened:
            name = f"collective.{one.name.lower().replace('_', '.')}"
            severity = Severity.ERROR if one.name == "PEER_DEAD" else Severity.INFO
            text = f"{one.name}: process {one.pid} on {one.host}, GPU {one.gpus}"
            attributes = (("process.pid", str(one.pid)), ("host.ip", one.host), ("gpu", one.gpus))
            batch.event(Event(name, batch.host, batch.at, severity, text, attributes))

    def _subscribe(self) -> _Watched | None:
        """Ask for events; None where this release has none."""
        deadline = time.monotonic() + self.timeout
        connection = self._connect(deadline)
        receive = _receiver(connection, deadline)
        try:
            for command in (_HELLO, "SET FORMAT json"):
                _say(connection, receive, command)
            if _say(connection, receive, "MONITOR lifecycle") == "OK":
                return _Watched(connection)
        except OSError:
            connection.close()
            raise
        connection.close()
        return None

    def _connect(self, deadline: float) -> socket.socket:
        host, _, port = self.target.rpartition(":")
        left = max(deadline - time.monotonic(), 0.001)
        try:
            return socket.create_connection((host.strip("[]"), int(port)), left)
        except ConnectionRefusedError as error:
            text = "no job listens: it has ended, or has NCCL_RAS_ENABLE=0"
            raise ConnectionRefusedError(error.errno, text, self.target) from error

    def _ask(self) -> tuple[bytes, Status, str]:
        """Return the answer, what it says, and its format; JSON that is broken is asked as text."""
        deadline = time.monotonic() + self.timeout
        as_text, self._text = self._text, False  # until text alone has been of use again
        if not as_text:
            body, is_json = self._exchange(deadline, json=True)
            if not is_json:
                return body, _nccl_text.parse(body), "txt"
            with suppress(StatusError):
                return body, _nccl_json.parse(body), "json"
        body, _ = self._exchange(deadline, json=False)
        status = _nccl_text.parse(body)
        self._text = True
        return body, status, "txt"

    def _exchange(self, deadline: float, *, json: bool) -> tuple[bytes, bool]:
        with self._connect(deadline) as connection:
            receive = _receiver(connection, deadline)
            answer = _say(connection, receive, _HELLO)
            if not answer.startswith("SERVER PROTOCOL"):
                raise RasError(f"{self.target} is no RAS of NCCL: it answers {answer!r:.60}")
            _say(connection, receive, f"TIMEOUT {_LEG}")
            # Releases before 2.28.7 have text alone and do not know the command.
            json = json and _say(connection, receive, "SET FORMAT json") == "OK"
            connection.sendall(b"VERBOSE STATUS\n")
            body = bytearray()
            while piece := receive(1 << 16):
                body += piece
                if len(body) > self.max_bytes:
                    raise RasError(f"RAS answers more than {self.max_bytes} bytes: raise max_bytes")
            return bytes(body), json

    def _add_job(self, batch: Batch, status: Status) -> None:
        for (state, errors), count in status.groups.items():
            batch.add(fabric.COMMUNICATORS, batch.host, float(count), self.target, state, errors)
        for state in MISSING[:2]:
            lost = float(status.lost[state])
            batch.add(fabric.JOB_PROCESSES, batch.host, lost, self.target, state)
        batch.add(fabric.RAS_TIMEOUTS, batch.host, float(status.timeouts), self.target)

    def _add_rank(self, batch: Batch, communicator: Communicator, rank: Rank) -> None:
        host = batch.host.key[0]
        entity = Kind.RANK(host, communicator.id, str(rank.number))
        if rank.state is not None:
            for state in STATES:
                batch.add(fabric.RANK_STATE, entity, float(state == rank.state), state)
        for phase, result in (("init", rank.init), ("async", rank.asynchronous)):
            if result is not None:
                for name in (*RESULTS, OTHER):
                    batch.add(fabric.RANK_RESULT, entity, float(name == result), phase, name)
        for collective, count in rank.counts.items():
            batch.add(fabric.RANK_LAUNCHED, entity, float(count), collective)
        batch.link(entity, Kind.COMMUNICATOR(host, communicator.id))
        if rank.pid in self._pids:
            batch.link(entity, Kind.PROCESS(host, str(self._pids[rank.pid])))


def _add_communicator(batch: Batch, one: Communicator) -> None:
    entity: Entity = Kind.COMMUNICATOR(batch.host.key[0], one.id)
    batch.link(entity, batch.host)
    if one.size is not None:
        batch.add(fabric.COMMUNICATOR_RANKS, entity, float(one.size))
    for state in MISSING:
        batch.add(fabric.COMMUNICATOR_RANKS_MISSING, entity, float(one.missing[state]), state)
    for collective, counts in one.operations.items():
        for statistic, count in counts._asdict().items():
            batch.add(fabric.COMMUNICATOR_OPERATIONS, entity, float(count), collective, statistic)


def _receiver(connection: socket.socket, deadline: float) -> Callable[[int], bytes]:
    """Make `recv` that keeps to the deadline, however slowly bytes come."""

    def receive(size: int) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer of RAS takes too long")
        connection.settimeout(left)
        return connection.recv(size)

    return receive


def _say(connection: socket.socket, receive: Callable[[int], bytes], command: str) -> str:
    """Send a command and return its answer, one line; bytes are taken singly, to leave the rest."""
    connection.sendall(f"{command}\n".encode())
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = receive(1)
        if not byte or len(line) > _LINE:
            raise RasError(f"RAS answers {command!r} with no line but {bytes(line)!r:.60}")
        line += byte
    return line.decode(errors="replace").strip()
