"""The `w2t` command."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from collector import __version__, config, logs, settings
from collector.commands import docs, doctor, once
from collector.config import Config, ConfigError

BAD_CONFIG = 2  # exit status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    if sys.stdout is None:  # closed by the caller: `w2t once >&-`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lasts
    options = _parser().parse_args(arguments)
    logs.to_stderr((options.log_level or "info").upper())
    try:
        status: int = options.command(options)
        sys.stdout.flush()
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)  # noqa: T201
        return BAD_CONFIG
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader has had enough: `w2t once | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, NotImplementedError) as error:
        print(f"w2t: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config.file", dest="config", type=Path, metavar="FILE")
    common.add_argument(
        "--log.level", dest="log_level", choices=("debug", "info", "warning", "error")
    )
    parser = argparse.ArgumentParser(
        prog="w2t", description="From watts to tokens: what a token costs, and why."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        command.set_defaults(command=run)
        return command

    serve = add("run", _run, "Run the daemon; without a config, on what this host has.")
    serve.add_argument(
        "--web.listen-address",
        dest="listen",
        action="append",
        metavar="HOST:PORT",
        help=f"default {settings.DEFAULT_LISTEN}; several are allowed",
    )
    serve.add_argument(
        "--web.enable-lifecycle",
        dest="lifecycle",
        action="store_true",
        help="allow POST /-/reload",
    )
    check = add("check", _check, "Check a config; every error at once, exit status 2.")
    check.add_argument(
        "file", type=Path, nargs="?", metavar="FILE", help="the same as --config.file"
    )
    poll = add("once", _once, "Poll all sources once, or one plugin's, and print the samples.")
    poll.add_argument("plugin", nargs="?", metavar="PLUGIN")
    poll.add_argument("--json", action="store_true")
    record = add("record", _record, "Save what a plugin reads as a case for tests.")
    record.add_argument("plugin", metavar="PLUGIN")
    record.add_argument("folder", type=Path, metavar="DIR")
    tree = add("topology", _topology, "Print what belongs to what.")
    tree.add_argument(
        "--url", metavar="URL", help="ask the daemon there, http://host:9842, instead of polling"
    )
    tree.add_argument("--json", action="store_true")
    found = add("doctor", _doctor, "Say what was found on this host and what is missing.")
    found.add_argument("--json", action="store_true")
    write = add("docs", _docs, "Write the generated pages: metrics.md, plugins.md, config.md.")
    write.add_argument("folder", type=Path, metavar="DIR")
    return parser


def _run(options: argparse.Namespace) -> int:
    from collector.daemon import Daemon

    def load() -> Config:
        loaded = config.load(options.config)
        if options.listen:
            loaded.settings.web.listen_address = options.listen
        if options.lifecycle:
            loaded.settings.web.enable_lifecycle = True
        return loaded

    daemon = Daemon(load)
    if options.log_level is None:
        logging.getLogger().setLevel(daemon.config.settings.daemon.log_level.upper())

    async def serve() -> None:
        await daemon.run()
        # All is closed; a thread that hangs in a read must not hold up the end.
        os._exit(0)

    try:
        asyncio.run(serve())
    except (OSError, ValueError) as error:  # an address or an endpoint that cannot be used
        logging.getLogger(__name__).error("%s", error)
        return 1
    return 0


def _check(options: argparse.Namespace) -> int:
    path = options.file or options.config
    loaded = config.load(path)
    print(f"{path or 'defaults'}: good, {len(loaded.plugins)} sources")  # noqa: T201
    return 0


def _once(options: argparse.Namespace) -> int:
    loaded = config.load(options.config, only=options.plugin)
    return asyncio.run(once.samples(loaded, as_json=options.json))


def _record(options: argparse.Namespace) -> int:
    loaded = config.load(options.config, only=options.plugin)
    return asyncio.run(once.record(loaded, options.folder))


def _topology(options: argparse.Namespace) -> int:
    if options.url:
        links = once.fetch_topology(options.url)
    else:
        links = asyncio.run(once.topology(config.load(options.config)))
    print(json.dumps({"links": links}, indent=1) if options.json else "\n".join(once.tree(links)))  # noqa: T201
    return 0


def _doctor(options: argparse.Namespace) -> int:
    return asyncio.run(doctor.report(config.load(options.config), as_json=options.json))


def _docs(options: argparse.Namespace) -> int:
    docs.write(options.folder)
    return 0
