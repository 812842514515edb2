"""The vLLM plugin, over HTTP on loopback and on recorded pages."""

import asyncio
import gzip
import json
import math
import re
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from collector.batch import Batch, Link
from collector.catalog import serving
from collector.entity import Kind
from collector.export.prometheus import Page as Exposed
from collector.read.exposition import OPENMETRICS, TEXT, ExpositionError
from collector.read.http import Answer, AnswerError
from collector.store import Store
from plugins.serving.vllm import Vllm
from tests.data import data
from tests.fakes import pages as fake
from tests.fakes.pages import Pages, Reply
from tests.fakes.vllm import answered, page, value

HOST = Kind.HOST("node1")
CPU = "serving/vllm-0.32.0-cpu-real"
RUST = "serving/vllm-0.32.0-rust-frontend-real"
STAT = "serving/vllm-0.33.0-statlogger"
IDLE = "serving/vllm-idle-by-version"
NOWHERE = Path("/nonexistent")


def poll(*replies: Reply | bytes, **config: object) -> list[Batch]:
    """Poll once for each reply over HTTP; a poll that raises is raised."""

    async def run() -> list[Batch]:
        batches = []
        async with Pages(*replies) as pages:
            plugin = Vllm(target=pages.url, **{"root": NOWHERE, **config})
            await plugin.open()
            try:
                for _ in replies:
                    batches.append(Batch(HOST, time.time(), plugin.metrics))
                    await plugin.poll(batches[-1])
            finally:
                await plugin.close()
        return batches

    return asyncio.run(run())


def replay(*answers: Answer, root: Path = NOWHERE) -> list[Batch]:
    """Poll once for each answer, without HTTP."""
    left = list(answers)

    class Recorded:
        url = "http://127.0.0.1:8000/metrics"

        async def get(self) -> Answer:
            return left.pop(0)

    async def run() -> list[Batch]:
        plugin = Vllm(root=root)
        await plugin.open()
        await plugin.close()
        plugin._endpoint = Recorded()  # type: ignore[assignment]
        batches = []
        for answer in answers:
            batches.append(Batch(HOST, answer.at, plugin.metrics))
            await plugin.poll(batches[-1])
        return batches

    return asyncio.run(run())


def recorded(relative: str) -> Answer:
    path = data(relative)
    return answered(path.read_bytes(), kind=OPENMETRICS if path.suffix == ".om" else TEXT)


def truth(relative: str) -> tuple[int, int]:
    """Prompt and generated tokens that the client was told."""
    usage = [request["usage"] for request in json.loads(data(relative).read_text())]
    return sum(u["prompt_tokens"] for u in usage), sum(u["completion_tokens"] for u in usage)


def test_poll_over_http():
    (batch,) = poll(page(5))
    assert value(batch, serving.REQUESTS_RUNNING) == 3
    assert value(batch, serving.KV_CACHE_UTILIZATION) == 0.25
    assert value(batch, serving.PROMPT_TOKENS) == 50
    assert value(batch, serving.PROMPT_TOKENS_COMPUTED) == 30
    assert value(batch, serving.GENERATION_TOKENS) == 5
    assert value(batch, serving.REQUESTS, "stop") == 5
    assert value(batch, serving.PREEMPTIONS) is None  # not on the page: absent, not zero
    assert {
        key.labels[0] for key in batch.keys if key.labels and key.metric is not serving.INFO
    } == {"m"}
    assert batch.errors == []
    # The engine is on this host, so it has this host's name.
    (engine,) = {key.entity for key in batch.keys}
    assert engine.key[0] == "node1"
    assert engine.key[2] == "0"
    assert Link(engine, HOST, 1.0) in batch.links
    assert abs(batch.at - time.time()) < 60


def test_lora_requests_info_is_never_exported():
    (batch,) = poll(page(5))
    assert 1.7e9 not in batch.values
    assert not any("a,b" in key.labels for key in batch.keys)


def test_page_before_0_8_3_has_no_engine_label():
    (batch,) = poll(page(5, engine=""))
    assert value(batch, serving.GENERATION_TOKENS, rank="0") == 5


def test_remote_engine_has_the_address_of_the_target():
    (batch,) = replay(answered(page(5)))
    assert {key.entity.key[0] for key in batch.keys} == {"127.0.0.1"}
    assert batch.links == []


def test_restart_that_passed_the_old_value():
    first, second = poll(page(100, start=1000.0), page(150, start=2000.0))
    assert value(first, serving.GENERATION_TOKENS) == 100
    assert value(second, serving.GENERATION_TOKENS) == 250
    assert value(second, serving.START_TIME) == 2000.0


def test_restart_by_the_time_a_counter_was_created():
    made = 'vllm:generation_tokens_created{{engine="0",model_name="m"}} {}'
    _, second = poll(
        page(100, start=None, more=made.format(1000.5)),
        page(150, start=None, more=made.format(2000.5)),
    )
    assert value(second, serving.GENERATION_TOKENS) == 250


def test_no_restart_where_the_start_time_is_missing_once():
    made = 'vllm:generation_tokens_created{engine="0",model_name="m"} 1000.5'
    _, _, last = poll(page(100, more=made), page(110, start=None, more=made), page(120, more=made))
    assert value(last, serving.GENERATION_TOKENS) == 120


def test_restart_seen_by_what_was_not_on_the_first_page():
    """A page that lacked the start time once must not hide a restart later."""
    made = 'vllm:generation_tokens_created{engine="0",model_name="m"} 1000.5'
    pages = (page(90, start=None, more=made), page(100, more=made), page(150, start=2000.0))
    assert [value(b, serving.GENERATION_TOKENS) for b in poll(*pages)] == [90, 100, 250]


def test_restart_with_other_series():
    """The engine comes back with a second rank: the first one's counters go on."""
    both = page(7, start=2000.0) + page(9, start=None, engine='engine="1",')
    _, second = poll(page(100), both)
    assert value(second, serving.GENERATION_TOKENS, rank="0") == 107
    assert value(second, serving.GENERATION_TOKENS, rank="1") == 9


def test_quantiles_of_the_window():
    batches = replay(
        *(answered(page(100.0 * i, slow=10.0 * i), at=5.0 * i) for i in range(15)),
    )
    last = batches[-1]
    assert value(last, serving.LATENCY_COUNT, "ttft") == 1200  # 60 s, not 70
    assert value(last, serving.LATENCY_WINDOW, "ttft") == 60
    assert value(last, serving.LATENCY_MEAN, "ttft") == pytest.approx(0.9 * 0.2 + 0.1 * 3)
    assert value(last, serving.LATENCY_QUANTILE, "ttft", "50") == pytest.approx(0.1 + 0.4 * 5 / 9)
    assert value(last, serving.LATENCY_LOWER, "ttft", "50") == 0.1
    assert value(last, serving.LATENCY_UPPER, "ttft", "50") == 0.5
    # Past the last bound no estimate is given, only that it is more than 0.5 s.
    assert value(last, serving.LATENCY_QUANTILE, "ttft", "95") is None
    assert value(last, serving.LATENCY_LOWER, "ttft", "95") == 0.5
    assert value(last, serving.LATENCY_UPPER, "ttft", "95") == math.inf
    assert value(last, serving.LATENCY_OBSERVATIONS, "ttft") == 1400
    assert value(batches[0], serving.LATENCY_COUNT, "ttft") is None


def test_p99_needs_100_observations():
    _, few, many = replay(
        *(answered(page(n), at=at) for n, at in ((0, 0.0), (99, 5.0), (100, 10.0)))
    )
    assert value(few, serving.LATENCY_UPPER, "ttft", "95") == 0.5
    assert value(few, serving.LATENCY_UPPER, "ttft", "99") is None
    assert value(many, serving.LATENCY_UPPER, "ttft", "99") == 0.5


def test_after_a_restart_the_window_says_that_it_is_short():
    last = replay(
        *(answered(page(10.0 * i), at=3000.0 + 5 * i) for i in range(20)),
        answered(page(300, start=3098.0), at=3100.0),
    )[-1]
    assert value(last, serving.LATENCY_COUNT, "ttft") == 300
    assert value(last, serving.LATENCY_WINDOW, "ttft") == 2.0
    assert value(last, serving.LATENCY_OBSERVATIONS, "ttft") == 190 + 300


def test_ranks_are_added_up_before_the_quantile_is_taken():
    def both(a: float, b: float) -> bytes:
        return page(a) + page(b, start=None, engine='engine="1",', slow=b)

    _, last = replay(answered(both(0, 0)), answered(both(30, 10), 5.0))
    assert value(last, serving.LATENCY_UPPER, "ttft", "50", rank="0") == 0.5
    assert value(last, serving.LATENCY_UPPER, "ttft", "50", rank="1") == math.inf
    assert value(last, serving.LATENCY_UPPER, "ttft", "50", rank="all") == 0.5
    assert value(last, serving.LATENCY_UPPER, "ttft", "95", rank="all") == math.inf
    assert value(last, serving.LATENCY_COUNT, "ttft", rank="all") == 40


@pytest.mark.parametrize(
    ("labels", "tokens"),
    [
        ('block_size="16",num_gpu_blocks="1000"', 16000),
        ('block_size="16",kv_cache_size_tokens="9000",num_gpu_blocks="1000"', 9000),
        ('block_size="16",num_gpu_blocks="None"', None),
    ],
)
def test_kv_cache_limit(labels, tokens):
    (batch,) = poll(page(1, more=f"vllm:cache_config_info{{{labels}}} 1.0"))
    assert value(batch, serving.KV_CACHE_LIMIT) == tokens


def test_prefix_cache_counted_in_blocks_is_left_out():
    """To 0.8 these counted blocks under the name that later counts tokens."""
    old = (
        "# HELP vllm:gpu_prefix_cache_hits_total GPU prefix cache hits, in terms of number of "
        'cached blocks.\nvllm:gpu_prefix_cache_hits_total{model_name="m"} 5\n'
    )
    body = b'vllm:prompt_tokens_total{model_name="m"} 100\n'
    (batch,) = poll(old.encode() + body)
    assert value(batch, serving.PROMPT_TOKENS) == 100
    assert value(batch, serving.PREFIX_CACHE_HITS) is None
    assert value(batch, serving.PROMPT_TOKENS_COMPUTED) is None
    (batch,) = poll(old.replace("blocks", "tokens").encode() + body)
    assert value(batch, serving.PREFIX_CACHE_HITS) == 5
    assert value(batch, serving.PROMPT_TOKENS_COMPUTED) == 95


def test_computed_prompt_tokens_never_fall():
    """Hits are counted when a request is scheduled, its prompt when it is computed."""

    def body(prompt: int, hits: int) -> bytes:
        labels = '{engine="0",model_name="m"}'
        return (
            f"vllm:prompt_tokens_total{labels} {prompt}\n"
            f"vllm:prefix_cache_hits_total{labels} {hits}\n"
            f"vllm:external_prefix_cache_hits_total{labels} 5\n"
        ).encode()

    batches = poll(body(100, 45), body(100, 85), body(200, 85))
    assert [value(b, serving.PROMPT_TOKENS_COMPUTED) for b in batches] == [50, 50, 110]


def test_computed_prompt_tokens_survive_a_cut_page():
    """Where the page says what was computed, the difference must never be mixed in."""
    by_source = (
        'vllm:prompt_tokens_by_source_total{engine="0",model_name="m",source="local_compute"}'
    )
    whole = page(20, more=f"{by_source} 100")
    _, cut, last = poll(whole, whole[: whole.index(by_source.encode())], whole)
    assert value(cut, serving.PROMPT_TOKENS_COMPUTED) is None
    assert value(last, serving.PROMPT_TOKENS_COMPUTED) == 100


# What is wrong with a page or its server.


def test_cut_page_keeps_what_is_whole():
    whole = page(20)
    cut = whole[: whole.index(b'le="+Inf"')]
    _, batch, last = poll(whole, cut, page(30))
    assert value(batch, serving.GENERATION_TOKENS) == 20
    assert "cut off" in str(batch.errors[0][1])
    # Half a histogram is none.
    assert value(batch, serving.LATENCY_OBSERVATIONS, "ttft") is None
    assert last.errors == []
    assert value(last, serving.LATENCY_OBSERVATIONS, "ttft") == 30
    assert value(last, serving.LATENCY_COUNT, "ttft") == 10


def test_connection_that_breaks_keeps_what_is_whole():
    body = page(20)
    (batch,) = poll(Reply(body, stop_after=body.index(b"vllm:request_success")))
    assert value(batch, serving.GENERATION_TOKENS) == 20
    assert "broke" in str(batch.errors[0][1])


def test_page_of_200_mb():
    line = b'vllm:generation_tokens_total{engine="0",model_name="m"} 1\n'
    with pytest.raises(AnswerError, match="larger than 8 MiB"):
        poll(Reply(line * 10_000, repeat=400), timeout=60.0)


def test_nan_is_no_value():
    body = page(20).replace(b"usage_perc", b"usage_perc", 1).replace(b"} 0.25", b"} NaN")
    (batch,) = poll(body)
    assert value(batch, serving.KV_CACHE_UTILIZATION) is None
    assert value(batch, serving.GENERATION_TOKENS) == 20
    assert "make no sense" in str(batch.errors[0][1])


def test_counter_survives_nan():
    nan = page(20).replace(
        b'total{engine="0",model_name="m"} 20', b'total{engine="0",model_name="m"} NaN'
    )
    assert b"NaN" in nan
    _, batch, last = poll(page(20), nan, page(25))
    assert value(batch, serving.GENERATION_TOKENS) is None
    assert value(last, serving.GENERATION_TOKENS) == 25


def test_nan_in_a_histogram():
    body = page(20).replace(b'le="0.5"} 20', b'le="0.5"} NaN')
    _, batch, last = poll(page(10), body, page(30))
    assert batch.errors
    assert value(batch, serving.LATENCY_OBSERVATIONS, "ttft") == 10
    assert value(last, serving.LATENCY_OBSERVATIONS, "ttft") == 30


@pytest.mark.parametrize(("old", "new"), [(b"} 0.25", b"} 25"), (b"} 3.0", b"} -1")])
def test_implausible_value_is_left_out(old, new):
    (batch,) = poll(page(20).replace(old, new))
    assert float(new[2:]) not in batch.values
    assert batch.errors


def test_duplicates_are_said():
    (batch,) = poll(page(20) + page(99, start=None))
    assert value(batch, serving.GENERATION_TOKENS) == 20
    assert "repeat a series" in str(batch.errors[0][1])


def test_malformed_line_is_said():
    (batch,) = poll(page(20, more='vllm:generation_tokens_total{engine="1 5'))
    assert value(batch, serving.GENERATION_TOKENS) == 20
    assert "malformed" in str(batch.errors[0][1])


@pytest.mark.parametrize(
    ("reply", "error", "message"),
    [
        (Reply(b"x", status="500 Internal Server Error"), AnswerError, "500 Internal"),
        (Reply(page(5), "text/html"), AnswerError, "text/html, not a page of metrics"),
        (Reply(b"[{}]", "application/json"), AnswerError, "application/json"),
        (Reply(b"<html></html>\n"), ExpositionError, "malformed"),
        (Reply(b"up 1\n"), ExpositionError, "no vllm: metric"),
        (Reply(b""), ExpositionError, "cut off"),
    ],
)
def test_no_page_of_vllm(reply, error, message):
    with pytest.raises(error, match=message):
        poll(reply)


def test_slow_drip():
    with pytest.raises(TimeoutError, match="no whole answer"):
        poll(Reply(page(5), pause=0.05), timeout=0.2)


def test_engine_that_goes_and_comes_back():
    async def run() -> list[float | None]:
        seen = []
        async with Pages(page(100)) as pages:
            port, plugin = pages.port, Vllm(target=pages.url, root=NOWHERE)
            await plugin.open()
            batch = Batch(HOST, time.time(), plugin.metrics)
            await plugin.poll(batch)
            seen.append(value(batch, serving.GENERATION_TOKENS))
        with pytest.raises(OSError, match=str(port)):
            await plugin.poll(Batch(HOST, time.time(), plugin.metrics))
        back = Pages(page(120, start=2000.0))
        back._server = await asyncio.start_server(back._connected, "127.0.0.1", port)
        batch = Batch(HOST, time.time(), plugin.metrics)
        await plugin.poll(batch)
        seen.append(value(batch, serving.GENERATION_TOKENS))
        await plugin.close()
        await back.__aexit__()
        return seen

    assert asyncio.run(run()) == [100, 220]


@pytest.mark.parametrize("target", ["127.0.0.1:8000", "ftp://host/", "http://", "vllm"])
def test_target_must_be_a_url(target):
    with pytest.raises(ValidationError, match="no URL such as"):
        Vllm(target=target)


@pytest.mark.parametrize(
    ("path", "asked"), [("", "/metrics"), ("/", "/metrics"), ("/proxy/m", "/proxy/m")]
)
def test_path(path, asked):
    async def run() -> str:
        async with Pages(page(5)) as pages:
            plugin = Vllm(target=pages.url + path, root=NOWHERE)
            await plugin.open()
            await plugin.poll(Batch(HOST, time.time(), plugin.metrics))
            await plugin.close()
            return pages.requests[0].split()[1]

    assert asyncio.run(run()) == asked


def test_record(tmp_path):
    async def run() -> None:
        async with Pages(page(5), Reply(b"# EOF\n", fake.OPENMETRICS)) as pages:
            await Vllm(target=pages.url, interval=0.01).record(tmp_path)

    asyncio.run(run())
    assert (tmp_path / "input" / "page-0.prom").read_bytes() == page(5)
    assert (tmp_path / "input" / "page-1.om").read_bytes() == b"# EOF\n"


CASES = sorted((Path(__file__).parents[2] / "recorded" / "vllm").iterdir())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recorded_case(case):
    answers = [
        answered(path.read_bytes(), 60.0 * i, TEXT if path.suffix == ".prom" else OPENMETRICS, True)
        for i, path in enumerate(sorted(case.glob("input/page-*")))
    ]
    batches = replay(*answers, root=case / "input" / "root")
    assert [batch.errors for batch in batches] == [[], []]
    store = Store()
    for batch in batches:
        store.write(batch, "vllm", 3600.0)
    rendered = Exposed(store).render(60.0).decode()
    assert rendered == (case / "expected.prom").read_text()


# Recorded pages.


@pytest.mark.parametrize(
    ("relative", "client"),
    [
        (f"{CPU}/after80.prom", [f"{CPU}/truth1.json"]),
        (f"{CPU}/after80plus60_prefix.prom", [f"{CPU}/truth1.json", f"{CPU}/truth2_prefix.json"]),
        (f"{CPU}/dp2_after60.prom", [f"{CPU}/truth_dp2.json"]),
        (f"{RUST}/after80.om", [f"{RUST}/truth80.json"]),
    ],
)
def test_tokens_equal_what_the_client_was_told(relative, client):
    (batch,) = replay(recorded(relative))
    told = [truth(one) for one in client]
    assert value(batch, serving.PROMPT_TOKENS) == sum(prompt for prompt, _ in told)
    assert value(batch, serving.GENERATION_TOKENS) == sum(generated for _, generated in told)
    assert batch.errors == []


def test_hits_and_computed_tokens_add_up():
    (batch,) = replay(recorded(f"{CPU}/after80plus60_prefix.prom"))
    assert value(batch, serving.PREFIX_CACHE_HITS) == 22656
    assert value(batch, serving.PROMPT_TOKENS_COMPUTED) == 47868 - 22656
    assert value(batch, serving.KV_CACHE_LIMIT) == 1048576
    assert value(batch, serving.REQUESTS, "length") == 140


def zeroed(body: bytes) -> bytes:
    """The page as it was before the first request."""
    pattern = rb"^(vllm:[^#\n]*(?:_bucket|_sum|_count|_total)(?:\{.*\})?) \S+$"
    return re.sub(pattern, rb"\1 0.0", body, flags=re.MULTILINE)


def test_drained_engine_equals_its_own_account():
    """All that the logger was fed, per rank: counters, means, and quantiles within bounds."""
    answer = recorded(f"{STAT}/dp2_drained.prom")
    _, batch = replay(answered(zeroed(answer.body), 100.0), answer._replace(at=150.0))
    account = json.loads(data(f"{STAT}/dp2_drained_truth.json").read_text())["engines"]
    assert sorted(account) == ["0", "1"]
    for rank, true in account.items():
        assert value(batch, serving.PROMPT_TOKENS, rank=rank) == true["prompt_tokens"]
        assert value(batch, serving.GENERATION_TOKENS, rank=rank) == true["generation_tokens"]
        assert value(batch, serving.PREEMPTIONS, rank=rank) == true["preemptions"]
        assert (
            value(batch, serving.PROMPT_TOKENS_COMPUTED, rank=rank)
            == true["prompt_tokens"] - true["cached_tokens"]
        )
        for word, name in (("ttft", "ttft"), ("inter_token", "itl"), ("e2e", "e2e")):
            check_latency(batch, word, true[name], rank)
    for word, name in (("ttft", "ttft"), ("inter_token", "itl"), ("e2e", "e2e")):
        check_latency(batch, word, [v for true in account.values() for v in true[name]], "all")


def check_latency(batch: Batch, word: str, true: list[float], rank: str) -> None:
    assert value(batch, serving.LATENCY_COUNT, word, rank=rank) == len(true)
    mean = value(batch, serving.LATENCY_MEAN, word, rank=rank)
    assert mean == pytest.approx(sum(true) / len(true))
    for q in (50, 95, 99):
        exact = sorted(true)[math.ceil(q * len(true) / 100) - 1]
        lower = value(batch, serving.LATENCY_LOWER, word, str(q), rank=rank)
        upper = value(batch, serving.LATENCY_UPPER, word, str(q), rank=rank)
        assert lower is not None
        assert upper is not None
        assert lower < exact <= upper


def test_end_to_end_quantiles_against_the_client():
    """The client sees what the server sees and the way between them, some milliseconds."""
    answer = recorded(f"{CPU}/after80.prom")
    _, batch = replay(answered(zeroed(answer.body), 100.0), answer._replace(at=150.0))
    true = sorted(request["e2e"] for request in json.loads(data(f"{CPU}/truth1.json").read_text()))
    for q in (50, 95):
        exact = true[math.ceil(q * len(true) / 100) - 1]
        lower = value(batch, serving.LATENCY_LOWER, "e2e", str(q))
        upper = value(batch, serving.LATENCY_UPPER, "e2e", str(q))
        assert lower is not None
        assert upper is not None
        assert lower < exact <= upper + 0.03
    # The queue was empty: the quantile is in the first bucket, where no estimate is given.
    assert value(batch, serving.LATENCY_QUANTILE, "queue", "50") is None
    assert value(batch, serving.LATENCY_UPPER, "queue", "50") == 0.3
    mean = value(batch, serving.LATENCY_MEAN, "queue")
    assert mean is not None
    assert mean < 0.01


def timeline() -> list[Answer | None]:
    with gzip.open(data(f"{CPU}/timeline.jsonl.gz"), "rt") as lines:
        scrapes = [json.loads(line) for line in lines]
    return [
        answered(s["body"].encode(), (s["t_start"] + s["t_end"]) / 2) if s["body"] else None
        for s in scrapes
    ]


@pytest.mark.parametrize("keep", [range(240), (*range(0, 19, 6), *range(108, 240, 30))])
def test_kill_9(keep):
    """2,427 tokens, kill -9, 2,869 tokens; sparse scrapes see 2,427 and then 2,869."""
    answers = timeline()
    kept = [answer for i in keep if (answer := answers[i]) is not None]
    generated = [value(b, serving.GENERATION_TOKENS) or 0.0 for b in replay(*kept)]
    before = max(i for i, a in enumerate(kept) if b"1.79542588035e+09" in a.body)
    assert generated[before] == 2427
    assert generated[-1] - generated[before] == 2869
    assert truth(f"{CPU}/timeline_truth_b.json")[1] == 2869
    assert generated == sorted(generated)


def test_kill_9_in_the_window():
    answers = [a for i in (0, 6, 12, 18, 108) if (a := timeline()[i]) is not None]
    last = replay(*answers)[-1]
    assert value(last, serving.LATENCY_COUNT, "ttft") == 80
    window = value(last, serving.LATENCY_WINDOW, "ttft")
    born = value(last, serving.START_TIME)
    assert window is not None
    assert born is not None
    # The process started some seconds after the kill: the window begins then, not at the kill.
    assert window == pytest.approx(answers[-1].at - born)


OLDEST = {serving.REQUESTS_RUNNING, serving.KV_CACHE_UTILIZATION, serving.PROMPT_TOKENS}


def test_every_generation():
    """What is the same in all releases is there in each, under whatever name."""
    paths = sorted(data(IDLE).glob("*.prom"))
    assert len(paths) >= 28
    for path in paths:
        (batch,) = replay(answered(path.read_bytes()))
        there = {key.metric for key in batch.keys}
        assert batch.errors == [], path
        assert there >= OLDEST | {serving.GENERATION_TOKENS, serving.REQUESTS}, path
        words = {key.labels[1] for key in batch.keys if key.metric is serving.LATENCY_SUM}
        assert words >= {"ttft", "inter_token", "e2e"}, path
        version = tuple(int(part) for part in path.name.split(".")[:3] if part.isdecimal())
        assert ("per_output_token" in words) == (version >= (0, 11) and "v1" in path.name), path
        assert ("queue" in words) == (version >= (0, 6, 6)), path
        if "v1" in path.name and version >= (0, 9):
            assert there >= {serving.PREFIX_CACHE_HITS, serving.PROMPT_TOKENS_COMPUTED}, path
            assert there >= {serving.SPEC_DRAFT_TOKENS, serving.KV_CACHE_LIMIT}, path


def test_lora_page():
    (batch,) = replay(recorded(f"{STAT}/dp2_lora_spec_mfu_kv.prom"))
    accepted = value(batch, serving.SPEC_ACCEPTED_TOKENS)
    drafted = value(batch, serving.SPEC_DRAFT_TOKENS)
    assert accepted
    assert drafted
    assert accepted < drafted
    assert {key.entity.key[2] for key in batch.keys} == {"0", "1"}
