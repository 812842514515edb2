"""An SNMP v2c agent over UDP on loopback that answers from a table, and can misbehave.

It runs on a thread of its own, so that it serves tests with and without a loop, and the daemon in
another process. `python -m tests.fakes.snmp FILE.snmprec` serves a file until it is killed; SIGUSR1
makes it slow.
"""

from __future__ import annotations

import argparse
import signal
import socket
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping, MutableSequence
from pathlib import Path

Oid = tuple[int, ...]
Value = int | str | bytes | Oid | tuple[str, int]

# BER tags: ITU-T X.690 and RFC 3416.
INTEGER, STRING, OBJECT_ID, SEQUENCE = 0x02, 0x04, 0x06, 0x30
NO_SUCH_INSTANCE, END_OF_MIB_VIEW = b"\x81\x00", b"\x82\x00"
GET, GET_NEXT, RESPONSE, GET_BULK = 0xA0, 0xA1, 0xA2, 0xA5
UNSIGNED = {"counter": 0x41, "gauge": 0x42, "timeticks": 0x43, "counter64": 0x46}
TOO_BIG, GENERAL_ERROR = 1, 5
MAX_REPLY = 1400  # octets of variables in one reply; more would not fit a frame


def parse_oid(text: str) -> Oid:
    return tuple(int(part) for part in text.strip(".").split("."))


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def encode_integer(value: int, tag: int = INTEGER) -> bytes:
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def encode_oid(oid: Oid) -> bytes:
    octets = bytearray()
    for arc in (oid[0] * 40 + oid[1], *oid[2:]):
        chunk = [arc & 0x7F]
        while arc := arc >> 7:
            chunk.append(0x80 | arc & 0x7F)
        octets += bytes(reversed(chunk))
    return tlv(OBJECT_ID, bytes(octets))


def encode(value: Value) -> bytes:
    """Encode an int as INTEGER, text as OCTET STRING, a tuple of ints as OBJECT IDENTIFIER,
    and a pair such as ("gauge", 7) as that type."""
    if isinstance(value, int):
        return encode_integer(value)
    if isinstance(value, str | bytes):
        return tlv(STRING, value.encode() if isinstance(value, str) else value)
    if isinstance(value[0], str):
        return encode_integer(int(value[1]), UNSIGNED[value[0]])
    return encode_oid(tuple(map(int, value)))


def read_snmprec(path: Path) -> dict[Oid, bytes]:
    """Read a recording of lines OID|TAG|VALUE, the format of snmpsim."""
    objects = {}
    for line in path.read_text(errors="replace").splitlines():
        oid, _, rest = line.partition("|")
        tag, _, text = rest.partition("|")
        if not tag or not tag.rstrip("x").isdigit():
            continue  # the rest of a text of several lines
        number = int(tag.rstrip("x"))
        if tag.endswith("x"):
            value = tlv(number, bytes.fromhex(text))
        elif number == INTEGER or number in UNSIGNED.values():
            value = encode_integer(int(text), number)
        elif number == OBJECT_ID:
            value = encode_oid(parse_oid(text) if "." in text else (0, 0))
        elif number == 0x40:
            value = tlv(number, bytes(int(part) for part in text.split(".")))
        else:
            value = tlv(number, text.encode())
        objects[parse_oid(oid)] = value
    return objects


class Agent:
    """Serves objects until the `with` block ends.

    Attributes:
        drop: Is told the number of a request, from 0, and says whether it gets no answer.
        garble: Changes the answer before it is sent.
        delay: Seconds before each answer.
        max_variables: A GET of more is answered by tooBig.
        broken: A GET with one of these OIDs is answered by genErr.
        requests: For each request so far, the type of its PDU and its OIDs.
    """

    def __init__(
        self, objects: Path | Mapping[str, Value], community: str = "public", port: int = 0
    ) -> None:
        if isinstance(objects, Path):
            self._objects = read_snmprec(objects)
        else:
            self._objects = {parse_oid(oid): encode(value) for oid, value in objects.items()}
        self._order = sorted(self._objects)
        self._community = community.encode()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._closing = False
        self.target = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.drop: Callable[[int], bool] = lambda number: False
        self.garble: Callable[[bytes], bytes] = lambda reply: reply
        self.delay = 0.0
        self.max_variables: int | None = None
        self.broken: set[str] = set()
        self.requests: MutableSequence[tuple[int, list[Oid]]] = []

    def __enter__(self) -> Agent:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closing = True
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def set(self, oid: str, value: Value) -> None:
        self._objects = {**self._objects, parse_oid(oid): encode(value)}
        self._order = sorted(self._objects)

    def remove(self, prefix: str) -> None:
        """Forget an object, or a whole subtree."""
        gone = parse_oid(prefix)
        self._objects = {k: v for k, v in self._objects.items() if k[: len(gone)] != gone}
        self._order = sorted(self._objects)

    def _serve(self) -> None:
        while True:
            message, peer = self._socket.recvfrom(65535)
            if self._closing:
                return
            reply = self._reply(message)
            if reply is not None:
                if self.delay:
                    time.sleep(self.delay)
                self._socket.sendto(self.garble(reply), peer)

    def _reply(self, message: bytes) -> bytes | None:
        version, community, (kind, pdu) = _items(_items(message)[0][1])
        request, first, second, (_, variables) = _items(pdu)
        oids = [_decode_oid(_items(variable)[0][1]) for _, variable in _items(variables)]
        number = len(self.requests)
        self.requests.append((kind, oids))
        if community[1] != self._community or self.drop(number):
            return None
        status, body = 0, variables
        if kind == GET:
            if self.max_variables is not None and len(oids) > self.max_variables:
                status = TOO_BIG
            elif not self.broken.isdisjoint(".".join(map(str, oid)) for oid in oids):
                status = GENERAL_ERROR
            else:
                body = b"".join(
                    _variable(oid, self._objects.get(oid, NO_SUCH_INSTANCE)) for oid in oids
                )
                if len(body) > MAX_REPLY:
                    status, body = TOO_BIG, b""
        elif kind == GET_NEXT:
            body = b"".join(self._next(oid)[1] for oid in oids)
        elif kind == GET_BULK:
            body = self._bulk(
                oids, int.from_bytes(first[1], "big"), int.from_bytes(second[1], "big")
            )
        return tlv(
            SEQUENCE,
            tlv(*version)
            + tlv(*community)
            + tlv(
                RESPONSE,
                tlv(*request) + encode_integer(status) + encode_integer(0) + tlv(SEQUENCE, body),
            ),
        )

    def _next(self, oid: Oid) -> tuple[Oid, bytes]:
        place = bisect_right(self._order, oid)
        if place == len(self._order):
            return oid, _variable(oid, END_OF_MIB_VIEW)
        found = self._order[place]
        return found, _variable(found, self._objects[found])

    def _bulk(self, oids: list[Oid], non_repeaters: int, repetitions: int) -> bytes:
        body = b"".join(self._next(oid)[1] for oid in oids[:non_repeaters])
        oids = oids[non_repeaters:]
        for _ in range(repetitions):
            found = [self._next(oid) for oid in oids]
            row = b"".join(variable for _, variable in found)
            if len(body) + len(row) > MAX_REPLY:
                break
            body += row
            oids = [oid for oid, _ in found]
        return body


def _variable(oid: Oid, value: bytes) -> bytes:
    return tlv(SEQUENCE, encode_oid(oid) + value)


def _items(data: bytes) -> list[tuple[int, bytes]]:
    """Split BER into the tag and content of each item."""
    items, at = [], 0
    while at < len(data):
        tag, size = data[at], data[at + 1]
        at += 2
        if size & 0x80:
            octets = size & 0x7F
            size = int.from_bytes(data[at : at + octets], "big")
            at += octets
        items.append((tag, data[at : at + size]))
        at += size
    return items


def _decode_oid(content: bytes) -> Oid:
    arcs, arc = [content[0] // 40, content[0] % 40], 0
    for octet in content[1:]:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    return tuple(arcs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--community", default="public")
    parser.add_argument("--delay", type=float, default=1.0, help="of the answers once it is slow")
    args = parser.parse_args()
    with Agent(args.file, args.community, args.port) as agent:
        agent.requests = deque(maxlen=1)  # it may serve for long
        signal.signal(signal.SIGUSR1, lambda *_: setattr(agent, "delay", args.delay))
        print(agent.target, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
