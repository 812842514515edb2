"""vLLM's metrics page: all releases since 0.6, data-parallel engines and the Rust frontend too.

Names and their releases: vllm/engine/metrics.py (V0, to 0.11), vllm/v1/metrics/loggers.py (V1).
What a release lacks is absent. Token counters move with every step of the engine.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr

from collector.batch import Batch
from collector.catalog import serving
from collector.entity import Entity, Kind
from collector.metric import Metric
from collector.plugin import Plugin
from collector.read import processes
from collector.read.exposition import OPENMETRICS, TEXT, ExpositionError, Page, Series
from collector.read.http import Answer, AnswerError, Endpoint, Url, metrics_page
from collector.read.processes import Process
from collector.worker import BusyError, Worker
from plugins.serving._engine import METRICS, Latency, Owner, Readings, Row, wanted
from plugins.serving._service import Service

ROWS = (
    Row(serving.REQUESTS_RUNNING, ("vllm:num_requests_running",)),
    Row(serving.REQUESTS_WAITING, ("vllm:num_requests_waiting",)),
    Row(serving.KV_CACHE_UTILIZATION, ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc")),
    Row(serving.REQUESTS, ("vllm:request_success_total",), label="finished_reason"),
    Row(serving.PREEMPTIONS, ("vllm:num_preemptions_total",)),
    Row(serving.PROMPT_TOKENS, ("vllm:prompt_tokens_total",)),
    Row(
        serving.PROMPT_TOKENS_COMPUTED,
        ("vllm:prompt_tokens_by_source_total",),
        only=("source", "local_compute"),
    ),
    Row(serving.GENERATION_TOKENS, ("vllm:generation_tokens_total",)),
    Row(
        serving.PREFIX_CACHE_QUERIES,
        ("vllm:prefix_cache_queries_total", "vllm:gpu_prefix_cache_queries_total"),
    ),
    Row(
        serving.PREFIX_CACHE_HITS,
        ("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total"),
    ),
    Row(serving.EXTERNAL_CACHE_HITS, ("vllm:external_prefix_cache_hits_total",)),
    Row(serving.SPEC_DRAFT_TOKENS, ("vllm:spec_decode_num_draft_tokens_total",)),
    Row(serving.SPEC_ACCEPTED_TOKENS, ("vllm:spec_decode_num_accepted_tokens_total",)),
)
LATENCIES = (
    Latency("ttft", ("vllm:time_to_first_token_seconds",)),
    # The older name said per output token, but was one observation per output event as well.
    Latency(
        "inter_token",
        ("vllm:inter_token_latency_seconds", "vllm:time_per_output_token_seconds"),
    ),
    Latency("per_output_token", ("vllm:request_time_per_output_token_seconds",)),
    Latency("e2e", ("vllm:e2e_request_latency_seconds",)),
    Latency("queue", ("vllm:request_queue_time_seconds",)),
    Latency("prefill", ("vllm:request_prefill_time_seconds",)),
    Latency("decode", ("vllm:request_decode_time_seconds",)),
)
_CONFIG = "vllm:cache_config_info"
# What tells one life of the engine from the next, the first that is on the page.
_BIRTHS = ("process_start_time_seconds", "vllm:generation_tokens_created")
# To 0.8 these two counted blocks; only the help text tells.
_IN_BLOCKS = re.compile(
    rb"^# HELP vllm:gpu_prefix_cache_(?:hits|queries)(?:_total)? .*blocks", re.MULTILINE
)

_ACCEPT = f"{TEXT};version=0.0.4,*/*;q=0.1"
_MAX_PAGE = 8 << 20  # bytes, 20 times a page of 4,000 lines: more would hold up the loop
_RANK = re.compile(r"^VLLM::\w+?_DP(\d+)")  # set by vLLM with setproctitle
_PORT = 8000  # vllm serve --port


class Vllm(Plugin):
    """Reads the metrics page of one vLLM server."""

    metrics: ClassVar[tuple[Metric, ...]] = METRICS

    target: Url = Field(
        default=f"http://127.0.0.1:{_PORT}",
        description="URL of the server; the page is /metrics where it names none.",
    )
    interval: float = Field(default=5.0, gt=0, description="Seconds between two polls.")
    window: float = Field(
        default=60.0, gt=0, description="Seconds over which quantiles of latencies are taken."
    )
    root: Path = Field(
        default=Path("/"), description="Where /proc of the host is, for an engine on this host."
    )

    _endpoint: Endpoint = PrivateAttr()
    _page: Page = PrivateAttr()
    _readings: Readings = PrivateAttr()
    _service: Service = PrivateAttr()
    _worker: Worker = PrivateAttr()
    _address: str = PrivateAttr(default="")
    _limits: dict[str, float] = PrivateAttr(default_factory=dict)
    _birth_series: list[Series] = PrivateAttr(default_factory=list)
    _births: dict[str, float] = PrivateAttr(default_factory=dict)

    @classmethod
    def detect(cls) -> list[dict[str, Any]]:
        """Find the vLLM servers that listen on this host."""
        return [{"target": url} for url in found(Path("/"))]

    async def open(self) -> None:
        """Prepare the connection; nothing is sent yet."""
        self._endpoint = Endpoint(metrics_page(self.target), _ACCEPT, self.timeout, _MAX_PAGE)
        self._endpoint.open()
        self._page = Page(wanted(ROWS, LATENCIES) | {_CONFIG, *_BIRTHS})
        self._readings = Readings(ROWS, LATENCIES, self._owner, self.window)
        self._service = Service(self.root, self._port, _is_vllm)
        self._worker = Worker("processes")

    async def poll(self, batch: Batch) -> None:
        """Read the page."""
        answer = await self._endpoint.get()
        kind = answer.content_type.partition(";")[0].strip().lower()
        if kind not in ("", TEXT, OPENMETRICS):
            raise AnswerError(f"{self._endpoint.url}: answers {kind}, not a page of metrics")
        batch.at = answer.at
        host = batch.host.key[0]
        address = host if answer.local else str(urlsplit(self.target).hostname)
        change = self._page.update(answer.body, answer.content_type)
        if answer.local:
            await self._look(answer.at)
        if change.rebuilt or address != self._address:
            self._address = address
            self._bind(answer)
        error = answer.cut or change.error
        if not self._readings.owners:
            raise error or ExpositionError(f"{self._endpoint.url}: no vllm: metric on the page")
        if error:
            batch.failed(None, error)
        born = self._born()
        self._readings.add(batch, change, born)
        for owner in self._readings.owners:
            batch.add(serving.INFO, owner.entity, 1.0, "vllm", owner.model, "live")
            batch.add(serving.START_TIME, owner.entity, born)
            limit = self._limits.get(owner.entity.key[2])
            batch.add(serving.KV_CACHE_LIMIT, owner.entity, limit, owner.model)
        if answer.local:
            self._link(batch)

    async def close(self) -> None:
        """Close the connection."""
        self._worker.stop()
        await self._endpoint.close()

    async def record(self, folder: Path) -> None:
        """Save two pages, one interval apart."""
        await self.open()
        try:
            for number in range(2):
                await asyncio.sleep(self.interval * number)
                answer = await self._endpoint.get()
                suffix = "om" if answer.content_type.startswith(OPENMETRICS) else "prom"
                page = folder / "input" / f"page-{number}.{suffix}"
                await asyncio.to_thread(_write, page, answer.body)
        finally:
            await self.close()

    async def _look(self, at: float) -> None:
        """See which processes there are; one that hangs in the kernel can hang its /proc, too."""
        with contextlib.suppress(TimeoutError, BusyError):
            async with asyncio.timeout(self.timeout / 4):
                await self._worker.run(lambda: self._service.look(at))

    @property
    def _port(self) -> int:
        url = urlsplit(self.target)
        return url.port or {"http": 80, "https": 443}[url.scheme]

    def _engine(self, rank: str) -> Entity:
        return Kind.ENGINE(self._address, str(self._port), rank)

    def _owner(self, series: Series) -> Owner:
        """Before 0.8.3 there is no label `engine`; the engine has rank 0 then."""
        labels = series.labels
        return Owner(self._engine(labels.get("engine", "0")), labels.get("model_name", ""))

    def _bind(self, answer: Answer) -> None:
        series = self._page.series
        if _IN_BLOCKS.search(answer.body):
            series = [s for s in series if not s.name.startswith("vllm:gpu_prefix_cache_")]
        self._readings.bind(series)
        births = (one for name in _BIRTHS for one in series if one.name == name)
        self._birth_series = list(itertools.islice(births, 1))
        self._limits = {}
        for one in series:
            if one.name == _CONFIG and (limit := _kv_limit(one.labels)) is not None:
                self._limits[one.labels.get("engine", "0")] = limit

    def _born(self) -> float | None:
        """When this life of the engine began, in seconds since the epoch; None if unknown.

        Of what tells lives apart one thing is trusted at a time: two that show the same restart
        in different polls would make two of it.
        """
        known = [(one.name, one.value) for one in self._birth_series if one.value > 0]
        if not known and self._service.born is not None:
            known = [("listener", self._service.born)]
        if known:
            name, born = known[0]
            if self._births.get(name, born) != born:
                self._births.clear()
            self._births[name] = born
        return next(iter(self._births.values()), None)

    def _link(self, batch: Batch) -> None:
        """Link processes to the engine's ranks, and these to this host."""
        ranks = {owner.entity.key[2] for owner in self._readings.owners}
        members: dict[str | None, list[Entity]] = defaultdict(list)
        for member in self._service.members:
            named = [found[1] for title in member.titles if (found := _RANK.match(title))]
            rank = named[-1] if named and len(ranks) > 1 else None
            members[rank].append(Kind.PROCESS(batch.host.key[0], str(member.pid)))
        # Ranks of other hosts are on the page too: those of this host are those that run here.
        here = sorted({rank for rank in members if rank is not None} or ranks)
        for rank in here:
            engine = self._engine(rank)
            batch.link(engine, batch.host)
            for process in members[rank]:
                batch.link(process, engine)
            for process in members[None]:
                batch.link(process, engine, 1 / len(here))


def found(root: Path) -> list[str]:
    """URLs of the vLLM servers that listen on the host whose /proc is below `root`."""
    table = processes.table(root)
    commands = {
        pid: command
        for pid, process in table.items()
        if _is_vllm(process, command := processes.command(root, pid))
    }
    listening = processes.listening(root) if commands else {}
    urls = []
    for pid, command in sorted(commands.items()):
        port = _argument(command, "--port", str(_PORT))
        if table[pid].parent not in commands and port.isdecimal() and int(port) in listening:
            host = _argument(command, "--host", "127.0.0.1")
            address = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else host  # noqa: S104
            urls.append(
                f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
            )
    return urls


def _argument(command: list[str], name: str, default: str) -> str:
    for one, following in zip(command, [*command[1:], ""], strict=True):
        if one == name:
            return following
        if one.startswith(f"{name}="):
            return one.partition("=")[2]
    return default


def _is_vllm(process: Process, command: list[str]) -> bool:
    """`vllm serve`, `python -m vllm.entrypoints...`, vllm-rs, and what they call themselves."""
    return process.comm.lower().startswith("vllm") or any(
        word.startswith("vllm.") or word.endswith("/vllm") for word in command[1:3]
    )


def _kv_limit(labels: dict[str, str]) -> float | None:
    """Tokens that the KV cache holds, of the labels of vllm:cache_config_info."""
    size = labels.get("kv_cache_size_tokens", "")  # from 0.32
    blocks, block = labels.get("num_gpu_blocks", ""), labels.get("block_size", "")
    if size.isdecimal():
        return float(size)
    if blocks.isdecimal() and block.isdecimal():
        return float(int(blocks) * int(block))
    return None


def _write(path: Path, body: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
