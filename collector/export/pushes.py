"""Makes what pushes to an OTLP receiver: the samples and, where asked for, the events."""

from __future__ import annotations

from collections.abc import Mapping

from collector import __version__
from collector.entity import Entity
from collector.events import Events
from collector.export.otlp import OtlpPush
from collector.export.otlp_events import OtlpEvents
from collector.export.otlp_transport import transport
from collector.settings import Otlp
from collector.store import Store

Push = OtlpPush | OtlpEvents


def pushes(
    settings: Otlp, headers: Mapping[str, str], host: Entity, store: Store, events: Events
) -> list[Push]:
    """Make the pushes of a daemon on `host`; `headers` are the settings' own, revealed.

    Raises:
        ValueError: The endpoint is malformed, or gRPC is asked for and not installed.
    """
    resource = {
        "service.name": "w2t",
        "service.instance.id": host.key[0],
        "service.version": __version__,
        "host.name": host.key[0],
    }
    default = "none" if settings.protocol == "grpc" else "gzip"
    compression = settings.compression or default
    found: list[Push] = [
        OtlpPush(
            store,
            settings.endpoint,
            protocol=settings.protocol,
            headers=headers,
            interval=settings.interval,
            timeout=settings.timeout,
            compression=compression,
            resource=resource,
        )
    ]
    if settings.events:
        gzip = compression == "gzip"
        way = transport(settings.protocol, settings.endpoint, headers, gzip, "logs")
        found.append(OtlpEvents(events, way, timeout=settings.timeout, resource=resource))
    return found
