"""Makes README's picture of a terminal: what commands really print of a running system.

`python -m tests.picture` (needs chromium).
"""

from __future__ import annotations

import html
import subprocess
import tempfile
from pathlib import Path

from tests.fakes.room import Room

IMAGES = Path(__file__).parents[1] / "docs/images"
SECONDS = 40
STYLE = (
    "body{margin:0;background:#14181d;color:#d5dbe1;font:15px/1.45 'DejaVu Sans Mono',monospace}"
    "pre{margin:0;padding:18px 22px} b{color:#7fd17f;font-weight:normal}"
)


def shoot(url: str, name: str, size: str) -> None:
    """Take a picture of a page."""
    with tempfile.TemporaryDirectory() as profile:
        options = (
            "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --hide-scrollbars"
            " --disable-background-networking --disable-component-update --disable-sync"
            f" --virtual-time-budget=15000 --window-size={size} --user-data-dir={profile}"
            f" --screenshot={IMAGES / name}"
        )
        subprocess.run(["chromium", *options.split(), url], check=True, capture_output=True)


def terminal(commands: list[tuple[str, str]]) -> str:
    """A page that shows commands and what they printed."""
    shown = "".join(f"<b>$ {html.escape(c)}</b>\n{html.escape(o)}\n" for c, o in commands)
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style><pre>{shown}</pre>"


def main() -> None:
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Room(Path(folder)) as room:
        room.prometheus.wait("count(w2t_engine_energy_joules_total > 0) == 2")
        room.run_agents(SECONDS)
        commands = []
        for command in (
            "curl -s localhost:9842/metrics | grep -E '^w2t_(host_power|model_energy|agent_energy_per)'",
            "w2t topology --url http://localhost:9842",
        ):
            real = command.replace("localhost:9842", room.web)
            done = subprocess.run(real, shell=True, check=True, capture_output=True, text=True)
            commands.append((command, done.stdout))
        page = Path(folder) / "terminal.html"
        page.write_text(terminal(commands))
        lines = sum(output.count("\n") + 2 for _, output in commands)
        shoot(page.as_uri(), "terminal.png", f"1180,{lines * 22 + 20}")


if __name__ == "__main__":
    main()
