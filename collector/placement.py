"""What the config says of where things are, as links."""

from __future__ import annotations

from collector.batch import Link
from collector.entity import Kind
from collector.settings import Placement


def links(placement: Placement) -> list[Link]:
    """Turn the config's `[topology]` into links."""
    found = []
    for name, host in placement.hosts.items():
        if host.rack:
            found.append(Link(Kind.HOST(name), Kind.RACK(host.rack), 1.0))
        for text in host.outlets:
            pdu, _, outlet = text.rpartition("/")
            found.append(Link(Kind.HOST(name), Kind.OUTLET(pdu, outlet), 1.0))
            found.append(Link(Kind.OUTLET(pdu, outlet), Kind.PDU(pdu), 1.0))
    for pdu, rack in placement.pdus.items():
        found.append(Link(Kind.PDU(pdu), Kind.RACK(rack), 1.0))
    for rack, site in placement.racks.items():
        found.append(Link(Kind.RACK(rack), Kind.SITE(site), 1.0))
    for unit, racks in placement.cooling_units.items():
        found += [Link(Kind.COOLING_UNIT(unit), Kind.RACK(rack), 1.0) for rack in racks]
    for text, engine in placement.engines.items():
        address, _, port = text.rpartition(":")
        entity = Kind.ENGINE(address, port, engine.rank)
        if engine.host:
            found.append(Link(entity, Kind.HOST(engine.host), 1.0))
        for gpu in engine.gpus:
            found.append(Link(entity, Kind.GPU(engine.host or address, gpu), 1.0))
    return found
