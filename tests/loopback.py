"""A server on 127.0.0.1 that speaks OpenAI's, Azure's and Anthropic's formats, counts, and misbehaves on request.

    with LoopbackServer(faults={2: Fault.status(429, {"Retry-After": "1"})}) as server:
        ...  # ask server.base_url
        assert len(server.completions) == 2

It is written on bare asyncio streams, so that it shares no HTTP code with what it tests and can
break a connection at any byte. By hand: ``python tests/loopback.py --port 8000``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from stepsynth.teachers.fake import FakeTeacher
from stepsynth.types import Message, Request, Sampling

__all__ = ["Fault", "LoopbackServer", "Seen", "completion", "message_of"]


@dataclass(frozen=True)
class Seen:
    """A request as it came; ``number`` counts its kind (completions or lists) from 1."""

    number: int
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body's JSON value."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    ``kind``: ``status``, ``reset`` (RST before a byte), ``close`` (FIN before a byte),
    ``truncated`` (half of the promised body), ``malformed`` (200, broken JSON), ``hang`` (no
    answer at all), ``slow`` (the right answer after ``seconds``), ``flood`` (a body without end).
    """

    kind: str
    code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    seconds: float = 0.0

    @classmethod
    def status(cls, code: int, headers: Mapping[str, str] | None = None, body: str | dict[str, Any] | list[Any] = "") -> Fault:
        """Answer with this status; a dict or a list becomes JSON, an empty body OpenAI's error shape."""
        value = body or {"error": {"message": f"scripted status {code}", "type": "scripted", "code": None}}
        return cls("status", code, headers or {}, value if isinstance(value, str) else json.dumps(value))


class LoopbackServer:
    """The server, in a thread of its own.

    Args:
        answer: body -> text of the answer, or the whole response body as a dict; by default
            `FakeTeacher` answers, deterministic in messages, sampling and seed.
        faults: completion number (from 1) -> fault, or a function of the request.
        models: ids that it lists and serves; ``None`` has no list (404) and serves any.
        list_fault: what goes wrong with ``GET /models``.
        api_key: the key it insists on; a refusal echoes the Authorization header.
        labels: labels that the default answer looks for in the last message.
        latency: seconds per answer; lists of models come at once.
        refuse_max_tokens: insist on ``max_completion_tokens``, as reasoning models do.
        refuse: parameters that it answers with a 400, also ``response_format`` types.
        most_choices: choices that it gives at most, whatever ``n`` says.
        prefix: path below which completions and models are.
        port: 0 takes a free one.

    Attributes:
        requests: all that came, in order.
        peak: most completions in flight at once.
        prompt_tokens: tokens billed for whole answers, as reported in their usage.
        completion_tokens: likewise.
    """

    def __init__(
        self,
        answer: Callable[[dict[str, Any]], str | dict[str, Any]] | None = None,
        *,
        faults: Mapping[int, Fault] | Callable[[Seen], Fault | None] | None = None,
        models: Sequence[str] | None = ("loopback",),
        list_fault: Fault | None = None,
        api_key: str | None = None,
        labels: Sequence[str] = (),
        latency: float = 0.0,
        refuse_max_tokens: bool = False,
        refuse: Sequence[str] = (),
        most_choices: int = 128,
        prefix: str = "/v1",
        port: int = 0,
    ) -> None:
        self.answer = answer or self._fake_answer
        self.faults = faults
        self.models = models
        self.list_fault = list_fault
        self.api_key = api_key
        self.labels = tuple(labels)
        self.latency = latency
        self.refuse_max_tokens = refuse_max_tokens
        self.refuse = tuple(refuse)
        self.most_choices = most_choices
        self.prefix = prefix
        self.requests: list[Seen] = []
        self.peak = self.prompt_tokens = self.completion_tokens = 0
        # Seeds come from keys, and keys from the port: a flaw would come and go between two runs of a test.
        self._fake = FakeTeacher(blemishes={})
        self._in_flight = 0
        self._port = port
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="loopback", daemon=True)
        self._counts = {"completions": 0, "other": 0}

    @property
    def base_url(self) -> str:
        """What belongs into ``teacher.base_url``."""
        return f"{self.root}{self.prefix}"

    @property
    def root(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def anthropic_url(self) -> str:
        """What belongs into ``teacher.base_url`` for the Messages API."""
        return self.root

    @property
    def azure_url(self) -> str:
        """What belongs into ``teacher.base_url`` beside an ``api_version``."""
        return self.root

    @property
    def completions(self) -> list[Seen]:
        """The requests for an answer, in order of arrival, whichever their format."""
        return [seen for seen in self.requests if _is_question(seen.path)]

    def start(self) -> Self:
        """Listen; returns when connections are accepted."""
        self._thread.start()
        self._ready.wait(10)
        if self._failure is not None:
            raise RuntimeError("the loopback server could not start") from self._failure
        return self

    def stop(self) -> None:
        """Drop every connection and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(10)

    def __enter__(self) -> Self:
        """Start."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.stop()

    def _serve(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._failure = error
            self._ready.set()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._connect, "127.0.0.1", self._port, backlog=512)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stopping.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A plain callback: the stream's own task would report a cancelled handler as an error.
        task = self._loop.create_task(self._converse(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._one(reader, writer):
                    pass
        finally:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Read and answer one request; ``False`` ends the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        asked = _is_question(path) and method == "POST"
        kind = "completions" if asked else "other"
        self._counts[kind] += 1
        seen = Seen(self._counts[kind], method, path, headers, body)
        self.requests.append(seen)
        self._in_flight += asked
        self.peak = max(self.peak, self._in_flight)
        try:
            return await self._react(seen, self._fault(seen, asked=asked), writer)
        finally:
            self._in_flight -= asked

    def _fault(self, seen: Seen, *, asked: bool) -> Fault | None:
        """Return what goes wrong with a request; servers that play a provider say more."""
        if not asked:
            return self.list_fault
        if callable(self.faults):
            return self.faults(seen)
        return (self.faults or {}).get(seen.number)

    async def _react(self, seen: Seen, fault: Fault | None, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(self.latency if _is_question(seen.path) else 0)
        kind = fault.kind if fault is not None else ""
        if fault is not None and kind == "slow":
            await asyncio.sleep(fault.seconds)
        if kind == "hang":
            await asyncio.sleep(3600)
        if kind in {"reset", "close"}:
            if kind == "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if kind == "flood":
            return await self._flood(writer)
        if fault is not None and kind == "status":
            return await self._send(writer, fault.code, fault.body.encode(), fault.headers)
        if kind == "malformed":
            return await self._send(writer, 200, b'{"choices": [{"message": {"content": "half')
        code, value = self._reply(seen)
        data = self._encoded(value)
        if kind == "truncated":
            await self._send(writer, code, data[: len(data) // 2], {"Content-Length": str(len(data))})
            return False
        if code == 200 and (usage := value.get("usage")):
            self.prompt_tokens += usage.get("prompt_tokens", usage.get("input_tokens")) or 0
            self.completion_tokens += usage.get("completion_tokens", usage.get("output_tokens")) or 0
        return await self._send(writer, code, data)

    def _encoded(self, value: dict[str, Any]) -> bytes:
        return json.dumps(value).encode()

    async def _send(self, writer: asyncio.StreamWriter, code: int, data: bytes, extra: Mapping[str, str] | None = None) -> bool:
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data)), **(extra or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {code} Scripted\r\n{lines}\r\n".encode("latin-1") + data)
        await writer.drain()
        return True

    async def _flood(self, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000000000\r\n\r\n")
        while True:
            writer.write(b" " * 262_144)
            await writer.drain()

    def _reply(self, seen: Seen) -> tuple[int, dict[str, Any]]:
        headers = seen.headers
        given = headers.get("authorization") or headers.get("api-key") or headers.get("x-api-key") or ""
        if self.api_key is not None and given not in {self.api_key, f"Bearer {self.api_key}"}:
            return 401, _error(f"Incorrect API key provided: {given}", "invalid_api_key")
        if seen.method == "GET":
            return self._listed(seen)
        anthropic = seen.path == "/v1/messages"
        azure = re.fullmatch(r"/openai/deployments/([^/]+)/chat/completions\?api-version=[\w.-]+", seen.path)
        if not (anthropic or azure or seen.path == f"{self.prefix}/chat/completions"):
            return 404, _error(f"no such route: {seen.method} {seen.path}", "not_found")
        try:
            body = seen.json
        except ValueError as error:
            return 400, _error(f"no JSON: {error}", "bad_json")
        if self.models is not None and (azure[1] if azure else body.get("model")) not in self.models:
            return 404, _error(f"The model {body.get('model')!r} does not exist", "model_not_found")
        if (said := self._refusal(body, anthropic=anthropic)) is not None:
            return 400, _error(said, "unsupported_parameter")
        return 200, self._answered(body, anthropic=anthropic)

    def _listed(self, seen: Seen) -> tuple[int, dict[str, Any]]:
        path = seen.path.partition("?")[0]
        if self.models is not None and path == f"{self.prefix}/models":
            return 200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}
        name = path.removeprefix(f"{self.prefix}/models/")
        if self.models is not None and name in self.models:
            return 200, {"id": name, "type": "model", "display_name": name}
        return 404, _error(f"no such route: {seen.method} {seen.path}", "not_found")

    def _refusal(self, body: dict[str, Any], *, anthropic: bool) -> str | None:
        """Say what is wrong with a request's parameters, in the words of the real servers."""
        if self.refuse_max_tokens and "max_tokens" in body and not anthropic:
            return "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        form = body.get("response_format", {}).get("type")
        refused = [name for name in self.refuse if name in body or name == form]
        if refused:
            return f"Unsupported parameter: '{refused[0]}' is not supported with this model."
        if anthropic and "max_tokens" not in body:
            return "max_tokens: Field required"
        if anthropic and any(turn["role"] == "system" for turn in body["messages"]):
            return 'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter'
        return None

    def _answered(self, body: dict[str, Any], *, anthropic: bool) -> dict[str, Any]:
        count = 1 if anthropic else min(body.get("n", 1), self.most_choices)
        # Choices differ as they do with another seed.
        answers = [self.answer({**body, "seed": body.get("seed", 0) + index}) for index in range(count)]
        bodies = [answer if isinstance(answer, dict) else completion(answer, body) for answer in answers]
        found = bodies[0]
        if count > 1:
            found["choices"] = [{**one["choices"][0], "index": index} for index, one in enumerate(bodies)]
            found["usage"]["completion_tokens"] = sum(one["usage"]["completion_tokens"] or 0 for one in bodies)
        return message_of(found) if anthropic and "choices" in found else found

    def _fake_answer(self, body: dict[str, Any]) -> dict[str, Any]:
        messages = tuple(Message(turn["role"], turn["content"]) for turn in body["messages"])
        limit = body.get("max_completion_tokens", body.get("max_tokens", 64))
        sampling = Sampling(body.get("temperature", 1.0), body.get("top_p", 1.0), max_tokens=limit)
        last = messages[-1].content
        stage = "rationales" if "reason why" in last else "seed"
        if any(message.role == "assistant" for message in messages):
            stage = "extrapolate"
        request = Request(messages, sampling, body.get("seed", 0), f"round/{stage}", 0, self._label(last))
        response = self._fake.answer(request)
        return completion(response.text, body, response.finish_reason)

    def _label(self, prompt: str) -> str:
        """Return the label that a prompt asks for: after "is" or "be", else the last one named."""
        names = {label.replace("_", " "): label for label in self.labels}
        options = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        if not options:
            return ""
        asked = re.search(rf"\b(?:is|be) ({options})\b", prompt) or re.search(rf".*\b({options})\b", prompt, re.DOTALL)
        return names[asked[1]] if asked else self.labels[0]


def _is_question(path: str) -> bool:
    return path.partition("?")[0].endswith(("/chat/completions", "/v1/messages"))


def message_of(found: dict[str, Any]) -> dict[str, Any]:
    """Return a chat completion in the form of Anthropic's Messages API."""
    choice, usage = found["choices"][0], found["usage"]
    reasons = {"length": "max_tokens", "content_filter": "refusal"}
    return {
        "id": "msg_loopback",
        "type": "message",
        "role": "assistant",
        "model": found["model"],
        "content": [{"type": "text", "text": choice["message"]["content"]}],
        "stop_reason": reasons.get(choice["finish_reason"], "end_turn"),
        "stop_sequence": None,
        "usage": {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]},
    }


def completion(text: str, body: dict[str, Any], finish_reason: str = "stop") -> dict[str, Any]:
    """Return a chat completion body; words are its tokens."""
    read = sum(len(str(turn["content"]).split()) for turn in body["messages"])
    written = len(text.split())
    return {
        "id": "loopback",
        "object": "chat.completion",
        "model": body["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }


def _error(message: str, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="An OpenAI-compatible fake server on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", action="append", default=None, help="served model id, repeatable (default: loopback)")
    parser.add_argument("--label", action="append", default=[], help="label that prompts ask for, repeatable")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds per answer")
    options = parser.parse_args()
    server = LoopbackServer(
        port=options.port, models=options.model or ["loopback"], labels=options.label, latency=options.latency
    ).start()
    sys.stdout.write(f"{server.base_url}\n")
    sys.stdout.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        server.stop()
        sys.stdout.write(f"{len(server.completions)} completions\n")


if __name__ == "__main__":
    main()
