"""Pages in vLLM's form, and what a batch says of an engine."""

from collector.batch import Batch
from collector.metric import Metric
from collector.read.exposition import TEXT
from collector.read.http import Answer


def page(
    generated: float,
    *,
    start: float | None = 1000.0,
    engine: str = 'engine="0",',
    more: str = "",
    slow: float = 0,
) -> bytes:
    """A small page in vLLM's form; every token came after 0.2 s, `slow` ones took 3."""
    labels = f'{engine}model_name="m"'
    n = generated
    lines = [
        "# TYPE vllm:num_requests_running gauge",
        f"vllm:num_requests_running{{{labels}}} 3.0",
        f"vllm:kv_cache_usage_perc{{{labels}}} 0.25",
        f"vllm:prompt_tokens_total{{{labels}}} {10 * n}",
        f"vllm:prefix_cache_hits_total{{{labels}}} {4 * n}",
        f"vllm:generation_tokens_total{{{labels}}} {n}",
        f'vllm:request_success_total{{{labels},finished_reason="stop"}} {n}',
        "# TYPE vllm:time_to_first_token_seconds histogram",
        f'vllm:time_to_first_token_seconds_bucket{{{labels},le="0.1"}} 0.0',
        f'vllm:time_to_first_token_seconds_bucket{{{labels},le="0.5"}} {n - slow}',
        f'vllm:time_to_first_token_seconds_bucket{{{labels},le="+Inf"}} {n}',
        f"vllm:time_to_first_token_seconds_count{{{labels}}} {n}",
        f"vllm:time_to_first_token_seconds_sum{{{labels}}} {0.2 * (n - slow) + 3 * slow}",
        'vllm:lora_requests_info{running_lora_adapters="a,b"} 1.7e9',
    ]
    if start is not None:
        lines.append(f"process_start_time_seconds {start}")
    return ("\n".join([*lines, *more.splitlines()]) + "\n").encode()


def answered(body: bytes, at: float = 0.0, kind: str = TEXT, local: bool = False) -> Answer:
    return Answer(body, kind, at, local, None)


def value(batch: Batch, metric: Metric, *labels: str, rank: str | None = None) -> float | None:
    """The sum over the ranks, or that of one; None if there is none."""
    values = [
        value
        for key, value in zip(batch.keys, batch.values, strict=True)
        if key.metric is metric
        and key.labels[1:] == labels
        and (key.entity.key[2] == rank if rank else key.entity.key[2] != "all")
    ]
    return sum(values) if values else None
