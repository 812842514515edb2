"""A RAS server of NCCL on loopback, and dumps of PyTorch's Flight Recorder."""

from __future__ import annotations

import contextlib
import pickle
import socket
import threading
from collections.abc import Sequence
from typing import Any


class Ras:
    """Speaks RAS's line protocol; each status asked for gets the next of the answers, the last
    again and again.

    Args:
        answers: What STATUS gives.
        json: Whether it knows SET FORMAT, as NCCL does since 2.28.7; an answer that is a pair is
            JSON first and text second.
        greeting: What it answers to CLIENT PROTOCOL.
        monitor: What MONITOR sends after OK; None where the command is not known.
    """

    def __init__(
        self,
        *answers: bytes | tuple[bytes, bytes],
        json: bool = True,
        greeting: bytes = b"SERVER PROTOCOL 2\n",
        monitor: bytes | None = None,
    ) -> None:
        self.answers = list(answers)
        self.json = json
        self.greeting = greeting
        self.monitor = monitor
        self.commands: list[str] = []
        self.connections: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def __enter__(self) -> Ras:
        return self

    def __exit__(self, *_: object) -> None:
        # Closing alone would leave the threads in their calls, and the port taken.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join()

    def drop(self) -> None:
        """End all connections."""
        for connection in self.connections:
            with contextlib.suppress(OSError):  # it is closed
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            self._threads.append(threading.Thread(target=self._talk, args=(connection,)))
            self._threads[-1].start()

    def _talk(self, connection: socket.socket) -> None:
        as_json = False
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            for line in lines:
                command = line.decode().strip()
                self.commands.append(command)
                words = command.lower().split()
                if words[0] == "client":
                    answer = self.greeting
                elif words[0] == "timeout":
                    answer = b"OK\n"
                elif words[0] == "set" and self.json:
                    as_json, answer = words[-1] == "json", b"OK\n"
                elif words[0] == "monitor" and self.monitor is not None:
                    answer = b"OK\n" + self.monitor
                elif words[-1] == "status":
                    connection.sendall(self._answer(as_json))
                    return
                else:
                    answer = b"ERROR: Unknown command " + command.encode() + b"\n"
                connection.sendall(answer)

    def _answer(self, as_json: bool) -> bytes:
        answer = self.answers[0]
        if isinstance(answer, tuple):
            answer = answer[0] if as_json else answer[1]
            if as_json:
                return answer
        if len(self.answers) > 1:
            del self.answers[0]
        return answer


def torch_pickle(value: Any) -> bytes:
    """Write a value with the opcodes that torch's own pickler uses: protocol 2 and no classes."""
    return pickle.dumps(value, protocol=2)


def rank_of(number: int, host: str, pid: int, counts: dict[str, int]) -> dict[str, Any]:
    """One rank as RAS's JSON has it."""
    return {
        "rank": number,
        "host": host,
        "pid": pid,
        "cuda_dev": number,
        "nvml_dev": number,
        "status": {
            "init_state": 0,
            "async_error": 0,
            "finalize_called": False,
            "destroy_flag": False,
            "abort_flag": False,
        },
        "collective_counts": counts,
    }


def status_of(hash_: str, ranks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A status of one communicator as RAS's JSON has it."""
    return {
        "nccl_version": "2.29.1",
        "timestamp": "2025-12-19 13:06:53",
        "communicators_count": 1,
        "communicators": [
            {
                "hash": hash_,
                "secondary_hash": "0x1:0x2",
                "size": len(ranks),
                "ranks_count": len(ranks),
                "missing_ranks_count": 0,
                "ranks": list(ranks),
                "missing_ranks": [],
            }
        ],
        "ras": {"collection_time_sec": 0.0, "timeouts_count": 0},
    }
