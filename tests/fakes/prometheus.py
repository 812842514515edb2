"""A real Prometheus that scrapes one target."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest


def free_port() -> int:
    """A port that was free just now, for programs that cannot be told to take one."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Prometheus:
    """Runs while the `with` block lasts; skips the test where Prometheus is not installed."""

    def __init__(self, folder: Path, target: str, interval: str = "1s") -> None:
        program = shutil.which("prometheus")
        if program is None:
            pytest.skip("no Prometheus: install Debian's package prometheus")
        self._folder = folder
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval},
            "scrape_configs": [{"job_name": "w2t", "static_configs": [{"targets": [target]}]}],
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        self.url = f"http://127.0.0.1:{free_port()}"
        self._command = [
            program,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
        ]

    def __enter__(self) -> Prometheus:
        self._log = (self._folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    def query(self, promql: str) -> list[tuple[dict[str, str], float]]:
        """Ask for an instant vector: labels and values."""
        query = urllib.parse.urlencode({"query": promql})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=10) as reply:
            found = json.load(reply)["data"]["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]

    def one(self, promql: str) -> float:
        """Ask for what has one value."""
        found = self.query(promql)
        assert len(found) == 1, f"{promql}: {found}"
        return found[0][1]

    def wait(self, promql: str, timeout: float = 60.0) -> None:
        """Wait until a query gives something."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                if self.query(promql):
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, f"nothing within {timeout} s: {promql}"
            time.sleep(0.25)
