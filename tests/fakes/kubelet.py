"""A kubelet's pod resources API on a socket of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import grpc
from google.protobuf import text_format
from google.protobuf.message import Message

from plugins.host._pod_resources_api import METHOD, messages


class Kubelet:
    """Answers `List`; a context manager.

    Args:
        text: The answer as protobuf's text, or what to do with a call in its place.

    Attributes:
        socket: Where it listens; short, as the system allows 108 bytes.
    """

    def __init__(self, text: str | Callable[[grpc.ServicerContext], Message]) -> None:
        self._answer = text
        self._stack = ExitStack()

    def __enter__(self) -> Kubelet:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="w2t"))
        pool = self._stack.enter_context(ThreadPoolExecutor(2))
        request, response = messages()

        def answer(_: Message, context: grpc.ServicerContext) -> Message:
            if callable(self._answer):
                return self._answer(context)
            return text_format.Parse(self._answer, response())

        service, _, method = METHOD.strip("/").rpartition("/")
        handler = grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=request.FromString,
            response_serializer=response.SerializeToString,
        )
        server = grpc.server(pool)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
        self.socket = Path(folder, "kubelet.sock")
        server.add_insecure_port(f"unix://{self.socket}")
        server.start()
        self._stack.callback(lambda: server.stop(None).wait())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
