"""NVIDIA GPUs by the page of a dcgm-exporter, of any of its releases."""

from __future__ import annotations

import asyncio
import re
from collections import Counter as Tally
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field as Setting
from pydantic import PrivateAttr

from collector.batch import Batch, Link, SeriesKey
from collector.catalog import gpu
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read import processes, xid
from collector.read.exposition import OPENMETRICS, TEXT, ExpositionError, Page, Series
from collector.read.http import Answer, AnswerError, Endpoint, Url, metrics_page
from plugins.gpu._dcgm_fields import BY_NAME, METRICS, Field
from plugins.gpu._dcgm_samples import Reading, Samples
from plugins.gpu.nvml import Nvml

_ACCEPT = f"{TEXT};version=0.0.4,*/*;q=0.1"
_MAX_PAGE = 8 << 20  # bytes; 8 GPUs have about 0.1 MB
_PORT = 9400  # dcgm-exporter --address
_PROGRAM = "dcgm-exporter"
_NULL = "<<<NULL>>>"  # dcgm_structs.h, DCGM_STR_BLANK

# The words for one thing over the releases and the kinds of row (pkg/dcgmexporter/expcollector.go,
# internal/pkg/rendermetrics/render_metrics.go).
_UUID = ("UUID", "uuid", "gpu_uuid")
_MODEL = ("modelName", "model_name")
_HOST = ("Hostname", "hostname")
_INSTANCE = ("GPU_I_ID",)
_POD_UID = ("pod_uid",)
_DRIVER = ("DCGM_FI_SYSTEM_DRIVER_VERSION", "DCGM_FI_DRIVER_VERSION")
_SERIAL = ("DCGM_FI_DEV_BOARD_SERIAL", "DCGM_FI_DEV_SERIAL")
_VBIOS = ("DCGM_FI_DEV_GPU_VBIOS_VERSION", "DCGM_FI_DEV_VBIOS_VERSION")
_UUID_FORM = re.compile(r"GPU-[0-9a-fA-F-]+")


class _Row(NamedTuple):
    """A series of the page, whose it is, and what it means."""

    series: Series
    field: Field
    entity: Entity
    model: str


class DcgmExporter(Plugin):
    """Reads the page of one dcgm-exporter.

    Where NVML reads the same GPUs, its values count, and this adds what NVML does not have: before
    Hopper that is what profiling counts. Rows of MIG instances repeat what is true of the whole GPU
    (power, energy, temperature, clocks), which is taken once; what is true of an instance alone
    (memory, profiling) is left out. A pod is linked to its GPUs where the page has its uid.
    """

    precedence: ClassVar[int] = -2
    spread: ClassVar[float] = 1.0
    metrics: ClassVar[tuple[Metric, ...]] = (*METRICS, gpu.COUNT, gpu.COUNT_EXPECTED)

    target: Url = Setting(
        default=f"http://127.0.0.1:{_PORT}",
        description="URL of the exporter; the page is /metrics where it names none.",
    )
    interval: float = Setting(
        default=10.0,
        gt=0,
        description="Seconds between two polls; the exporter itself reads every 30 s by default.",
    )
    host: str = Setting(
        default="",
        description="Name of the host whose GPUs these are. By default it is this host for an "
        "exporter on this host, else what the page says, unless that is localhost or the name of "
        "the exporter's pod; else the host in the URL.",
    )

    _endpoint: Endpoint = PrivateAttr()
    _page: Page = PrivateAttr()
    _samples: Samples = PrivateAttr(default_factory=Samples)
    _rows: list[_Row] = PrivateAttr(default_factory=list)
    _infos: list[SeriesKey] = PrivateAttr(default_factory=list)
    _links: list[Link] = PrivateAttr(default_factory=list)
    _counts: Tally[Entity] = PrivateAttr(default_factory=Tally)
    _most: Tally[Entity] = PrivateAttr(default_factory=Tally)
    _local: bool = PrivateAttr(default=False)
    _nvml: bool = PrivateAttr(default=False)

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Find the exporter that listens on this host; nothing is asked."""
        return [{"target": f"http://127.0.0.1:{port}"} for port in found(Path("/"))]

    async def open(self) -> None:
        """Prepare the connection; nothing is sent yet."""
        self._endpoint = Endpoint(metrics_page(self.target), _ACCEPT, self.timeout, _MAX_PAGE)
        self._endpoint.open()
        self._page = Page(BY_NAME)
        self._nvml = bool(await asyncio.to_thread(Nvml.detect))
        await asyncio.to_thread(xid.lookup, 0)  # reads its file with the first call

    async def poll(self, batch: Batch) -> None:
        """Read the page.

        Raises:
            ExpositionError: It is no page of a dcgm-exporter.
        """
        answer = await self._endpoint.get()
        kind = answer.content_type.partition(";")[0].strip().lower()
        if kind not in ("", TEXT, OPENMETRICS):
            raise AnswerError(f"{self._endpoint.url}: answers {kind}, not a page of metrics")
        change = self._page.update(answer.body, answer.content_type)
        if change.rebuilt or answer.local != self._local:
            self._local = answer.local
            self._bind(batch.host)
        error = answer.cut or change.error
        if not self._rows:
            raise error or ExpositionError(
                f"{self._endpoint.url}: no DCGM_FI_ metric of a GPU on the page"
            )
        if error:
            batch.failed(None, error)
        batch.extend_links(self._links)
        batch.extend(self._infos, [1.0] * len(self._infos))
        for host, most in self._most.items():  # an exporter leaves a lost GPU out without a word
            batch.add(gpu.COUNT, host, float(self._counts[host]))
            batch.add(gpu.COUNT_EXPECTED, host, float(most))
        self._samples.add(
            batch,
            (
                Reading(field, entity, series.value, model, series.time)
                for series, field, entity, model in self._rows
            ),
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._endpoint.close()

    async def record(self, folder: Path) -> None:
        """Save the page as it is, host and pod names included."""
        await self.open()
        try:
            answer: Answer = await self._endpoint.get()
        finally:
            await self.close()
        path = folder / "input" / "page.prom"
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(path.write_bytes, answer.body)

    def _bind(self, here: Entity) -> None:
        """Find out whose each series is; GPUs and pods come and go, but rarely."""
        self._rows, infos, links = [], dict[Entity, SeriesKey](), dict[Link, None]()
        self._counts = counts = Tally[Entity]()
        for series in self._page.series:
            labels = series.labels
            uuid = _label(labels, _UUID)
            if not _UUID_FORM.fullmatch(uuid):
                continue
            host = Kind.HOST(self._host(labels, here))
            entity = Kind.GPU(host.key[0], uuid)
            model = _label(labels, _MODEL)
            if entity not in infos:
                infos[entity] = SeriesKey(gpu.INFO, entity, _info(labels, model))
                counts[host] += 1
            links[Link(entity, host, 1.0)] = None
            if pod := _label(labels, _POD_UID):
                links[Link(Kind.POD(pod), entity, 1.0)] = None
            field = BY_NAME[series.name]
            if number := labels.get("nvlink", ""):
                if field.of_link is not None:
                    one = Kind.NVLINK(*entity.key, number)
                    links[Link(one, entity, 1.0)] = None
                    of_link = field._replace(metric=field.of_link)
                    self._rows.append(_Row(series, of_link, one, model))
            elif not (field.by_instance and _label(labels, _INSTANCE)):
                self._rows.append(_Row(series, field, entity, model))
        # What NVML says of a GPU of this host is more, and one GPU must not have two descriptions.
        self._infos = [
            key for key in infos.values() if not self._nvml or key.entity.key[0] != here.key[0]
        ]
        self._links = list(links)
        self._most |= counts

    def _host(self, labels: dict[str, str], here: Entity) -> str:
        if self.host or self._local:
            return self.host or here.key[0]
        said = _label(labels, _HOST)
        # Without NODE_NAME in its environment the exporter takes its pod's name for the host's
        # (NVIDIA/dcgm-exporter#129).
        if said and said != "localhost" and _PROGRAM not in said:
            return said
        return str(urlsplit(self.target).hostname)


def found(root: Path) -> Iterator[int]:
    """Ports on which an exporter listens on the host whose /proc is below `root`."""
    exporters = [
        pid for pid, process in processes.table(root).items() if process.comm == _PROGRAM[:15]
    ]
    listening = processes.listening(root) if exporters else {}
    for pid in exporters:
        port = _port(processes.command(root, pid))
        if port in listening:
            yield port


def _port(command: list[str]) -> int | None:
    """Give the port of --address, which is `:9400` or `address:port`."""
    for option, value in zip(command, [*command[1:], ""], strict=True):
        name, _, inline = option.partition("=")
        if name in ("-a", "--address", "-address"):
            port = (inline or value).rpartition(":")[2]
            return int(port) if port.isdecimal() else None
    return _PORT


def _label(labels: dict[str, str], names: tuple[str, ...]) -> str:
    for name in names:
        value = labels.get(name, "")
        if value and value != _NULL:
            return value
    return ""


def _info(labels: dict[str, str], model: str) -> tuple[str, ...]:
    """Give the values of `gpu.info`'s labels; the bus id as sysfs has it."""
    domain, _, rest = labels.get("pci_bus_id", "").lower().partition(":")
    bus = f"{domain[-4:]}:{rest}" if rest else ""
    more = (_label(labels, names) for names in (_DRIVER, _VBIOS))
    return (labels.get("gpu", ""), model, _label(labels, _SERIAL), bus, *more)
