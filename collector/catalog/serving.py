"""Layers 6 and 7, model serving and inference quality: one vocabulary for all engines."""

from collector.entity import Kind
from collector.metric import COUNTER, GAUGE, Metric

_MODEL = ("gen_ai.request.model",)

INFO = Metric(
    "engine.info",
    GAUGE,
    "",
    Kind.ENGINE,
    "Always 1; says what the engine is; counted says whether tokens count live or at finish.",
    ("engine.type", "gen_ai.request.model", "counted"),
)
START_TIME = Metric(
    "engine.start_time",
    GAUGE,
    "s",
    Kind.ENGINE,
    "When the engine's process started, since the epoch.",
)
REQUESTS_RUNNING = Metric(
    "engine.requests.running", GAUGE, "{request}", Kind.ENGINE, "Requests in the batch.", _MODEL
)
REQUESTS_WAITING = Metric(
    "engine.requests.waiting", GAUGE, "{request}", Kind.ENGINE, "Requests in the queue.", _MODEL
)
REQUESTS = Metric(
    "engine.requests",
    COUNTER,
    "{request}",
    Kind.ENGINE,
    "Finished requests by reason.",
    (*_MODEL, "gen_ai.response.finish_reason"),
)
PREEMPTIONS = Metric(
    "engine.preemptions",
    COUNTER,
    "{request}",
    Kind.ENGINE,
    "Requests put out of the batch because the KV cache was full.",
    _MODEL,
)
KV_CACHE_UTILIZATION = Metric(
    "engine.kv_cache.utilization",
    GAUGE,
    "1",
    Kind.ENGINE,
    "Share of the KV cache that running requests hold; cached blocks count as free.",
    _MODEL,
)
KV_CACHE_LIMIT = Metric(
    "engine.kv_cache.limit",
    GAUGE,
    "{token}",
    Kind.ENGINE,
    "Tokens that the KV cache holds.",
    _MODEL,
)
PROMPT_TOKENS = Metric(
    "engine.prompt_tokens",
    COUNTER,
    "{token}",
    Kind.ENGINE,
    "Prompt tokens, cached ones included; goes on over restarts of the engine.",
    _MODEL,
)
PROMPT_TOKENS_COMPUTED = Metric(
    "engine.prompt_tokens.computed",
    COUNTER,
    "{token}",
    Kind.ENGINE,
    "Prompt tokens that were computed, not served from a cache.",
    _MODEL,
)
GENERATION_TOKENS = Metric(
    "engine.generation_tokens",
    COUNTER,
    "{token}",
    Kind.ENGINE,
    "Generated tokens; goes on over restarts of the engine.",
    _MODEL,
)
PREFIX_CACHE_QUERIES = Metric(
    "engine.prefix_cache.queries",
    COUNTER,
    "{token}",
    Kind.ENGINE,
    "Prompt tokens looked up in the prefix cache.",
    _MODEL,
)
PREFIX_CACHE_HITS = Metric(
    "engine.prefix_cache.hits",
    COUNTER,
    "{token}",
    Kind.ENGINE,
    "Prompt tokens found in the prefix cache.",
    _MODEL,
)
EXTERNAL_CACHE_HITS = Metric(
    "engine.prefix_cache.external_hits",
    COUNTER,
    "{token}",
    Kind.ENGINE,
    "Prompt tokens whose KV cache came from outside the engine; not among the hits.",
    _MODEL,
)
SPEC_DRAFT_TOKENS = Metric(
    "engine.spec_decode.draft_tokens",
    COUNTER,
    "{token}",
    Kind.ENGINE,
    "Tokens drafted by speculative decoding.",
    _MODEL,
)
SPEC_ACCEPTED_TOKENS = Metric(
    "engine.spec_decode.accepted_tokens",
    COUNTER,
    "{token}",
    Kind.ENGINE,
    "Drafted tokens that were accepted.",
    _MODEL,
)

# Latencies of the requests of a window, from the deltas of the engine's histogram. A percentile's
# true value lies between lower and upper, the bounds of its bucket.
_LATENCY = (*_MODEL, "latency")
_PERCENTILE = (*_LATENCY, "percentile")  # promtool reserves `quantile` for summaries
LATENCY_QUANTILE = Metric(
    "engine.latency",
    GAUGE,
    "s",
    Kind.ENGINE,
    "Estimated percentile over the window: ttft, inter_token, per_output_token, e2e, queue, "
    "prefill, decode. Absent in the first and the last bucket; the bounds are there. Rank all "
    "is that of all ranks behind one port.",
    _PERCENTILE,
)
LATENCY_LOWER = Metric(
    "engine.latency.lower",
    GAUGE,
    "s",
    Kind.ENGINE,
    "Lower bound of the bucket that holds the percentile, which is above it.",
    _PERCENTILE,
)
LATENCY_UPPER = Metric(
    "engine.latency.upper",
    GAUGE,
    "s",
    Kind.ENGINE,
    "Upper bound of the bucket that holds the percentile; +Inf where it is past the last bound.",
    _PERCENTILE,
)
LATENCY_MEAN = Metric(
    "engine.latency.mean", GAUGE, "s", Kind.ENGINE, "Exact mean over the window.", _LATENCY
)
LATENCY_COUNT = Metric(
    "engine.latency.observations",
    GAUGE,
    "{observation}",
    Kind.ENGINE,
    "Observations in the window.",
    _LATENCY,
)
LATENCY_WINDOW = Metric(
    "engine.latency.window",
    GAUGE,
    "s",
    Kind.ENGINE,
    "What the window really covers: less than configured after a start, a restart or a gap.",
    _LATENCY,
)
LATENCY_SUM = Metric(
    "engine.latency.time",
    COUNTER,
    "s",
    Kind.ENGINE,
    "Sum of all observations; goes on over restarts of the engine.",
    _LATENCY,
)
LATENCY_OBSERVATIONS = Metric(
    "engine.latency.events",
    COUNTER,
    "{observation}",
    Kind.ENGINE,
    "Count of all observations; goes on over restarts of the engine.",
    _LATENCY,
)
