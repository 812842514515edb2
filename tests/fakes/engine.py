"""A vLLM server's metrics page whose counters grow at a known pace, in a process of its own.

`python -m tests.fakes.engine --model llama --output 400 --prompt 1000 --cached 200` prints its port
and serves until it is killed. Rates are tokens per second; counts are exact at any time.
"""

from __future__ import annotations

import argparse
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = """\
# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.
# TYPE process_start_time_seconds gauge
process_start_time_seconds {born}
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="{model}"}} 4.0
# HELP vllm:kv_cache_usage_perc KV-cache usage. 1 means 100 percent usage.
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{{engine="0",model_name="{model}"}} 0.25
# HELP vllm:prompt_tokens_total Number of prefill tokens processed.
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{{engine="0",model_name="{model}"}} {prompt}
# HELP vllm:prompt_tokens_by_source_total Number of prompt tokens by source.
# TYPE vllm:prompt_tokens_by_source_total counter
vllm:prompt_tokens_by_source_total{{engine="0",model_name="{model}",source="local_compute"}} {computed}
vllm:prompt_tokens_by_source_total{{engine="0",model_name="{model}",source="local_cache_hit"}} {cached}
# HELP vllm:generation_tokens_total Number of generation tokens processed.
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{engine="0",model_name="{model}"}} {output}
# HELP vllm:time_to_first_token_seconds Histogram of time to first token in seconds.
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{{engine="0",le="0.1",model_name="{model}"}} {half}
vllm:time_to_first_token_seconds_bucket{{engine="0",le="0.25",model_name="{model}"}} {requests}
vllm:time_to_first_token_seconds_bucket{{engine="0",le="+Inf",model_name="{model}"}} {requests}
vllm:time_to_first_token_seconds_count{{engine="0",model_name="{model}"}} {requests}
vllm:time_to_first_token_seconds_sum{{engine="0",model_name="{model}"}} {time}
"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: str
    rates: dict[str, float]
    born = time.time()

    def do_GET(self) -> None:
        age = time.time() - self.born
        counts = {name: rate * age for name, rate in self.rates.items()}
        requests = int(10 * age)
        body = PAGE.format(
            born=self.born, model=self.model, requests=requests, half=requests // 2,
            time=requests * 0.12, computed=counts["prompt"] - counts["cached"], **counts,
        ).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=1.0.0; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    for rate in ("output", "prompt", "cached"):
        parser.add_argument(f"--{rate}", type=float, default=0.0)
    options = parser.parse_args()
    Handler.model = options.model
    Handler.rates = {rate: getattr(options, rate) for rate in ("output", "prompt", "cached")}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(os.getpid(), server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
