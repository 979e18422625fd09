"""A chat completions server on 127.0.0.1 that is far quicker than any client, and knows the truth.

    python -m benchmarks.clients.server --latency 0.2

It counts every request and what it answered, by row, and spoils answers on demand. Written on bare
asyncio protocols in a process of its own, so that it shares neither code nor CPU time with what it
measures. ``POST /control`` sets latency and faults and starts new counts, ``GET /control`` returns
them. `Server` starts and asks one from another process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.clients.truth import answer_text, read_prompt

__all__ = ["FAULTS", "Bench", "Server"]

ROOT = Path(__file__).resolve().parents[2]
FAULTS = ("429", "500", "reset", "truncated", "malformed", "empty")
_ERROR = json.dumps({"error": {"message": "scripted fault", "type": "server_error", "code": None}}).encode()
_MODELS = json.dumps({"object": "list", "data": [{"id": "bench", "object": "model", "created": 0, "owned_by": "bench"}]}).encode()


class Bench:
    """What the server does and what it has seen.

    Attributes:
        latency: seconds until an answer.
        jitter: an answer comes up to this share of the latency earlier or later.
        fault_rate: share of requests that are spoilt; which ones is decided by row and attempt
            alone, so every client meets the same faults in whatever order it asks.
    """

    def __init__(self, latency: float, jitter: float = 0.0, fault_rate: float = 0.0) -> None:
        self.latency, self.jitter, self.fault_rate = latency, jitter, fault_rate
        self.asked: Counter[int] = Counter()
        self.answered: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.requests = self.others = self.in_flight = self.peak = 0
        self.first_request = self.last_answer = 0.0
        self.cpu_at_start = _cpu()
        self._random = random.Random(0)

    def fault(self, row: int) -> str | None:
        """Return what goes wrong with the latest request for a row."""
        if not self.fault_rate:
            return None
        draw = random.Random(f"{row} {self.asked[row]}")
        return draw.choice(FAULTS) if draw.random() < self.fault_rate else None

    def delay(self) -> float:
        """Return the seconds that the next answer takes."""
        return self.latency * (1 + self.jitter * self._random.uniform(-1, 1))

    def counts(self) -> dict[str, Any]:
        """Return what was seen since the counts began; times are of the machine's monotonic clock.

        ``requests`` are all completions, ``others`` those that are about no row (probes), ``first_request`` is
        the first about a row.
        """
        return {
            "requests": self.requests,
            "others": self.others,
            "rows_asked": len(self.asked),
            "rows_answered": len(self.answered),
            "answered": sorted(self.answered),
            "asked": dict(self.asked),
            "faults": dict(self.faults),
            "peak_in_flight": self.peak,
            "first_request": self.first_request,
            "last_answer": self.last_answer,
            "cpu_s": _cpu() - self.cpu_at_start,
        }


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _Connection(asyncio.Protocol):
    """One client's connection: requests one after the other, bodies by Content-Length or chunked."""

    def __init__(self, state: dict[str, Bench]) -> None:
        self._state = state
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            lowered = head.lower()
            body_start = end + 4
            found = lowered.find(b"content-length:")
            if b"transfer-encoding: chunked" in lowered:
                whole = _dechunk(self._buffer[body_start:])
                if whole is None:
                    return
                body, used = whole
            else:
                length = int(lowered[found + 15 :].split(b"\r\n", 1)[0]) if found >= 0 else 0
                if len(self._buffer) < body_start + length:
                    return
                body, used = self._buffer[body_start : body_start + length], length
            self._buffer = self._buffer[body_start + used :]
            method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
            self._handle(method, path.partition("?")[0], body)

    def _handle(self, method: str, path: str, body: bytes) -> None:
        if path == "/control":
            if method == "POST":
                self._state["bench"] = Bench(**json.loads(body))
            self._send(200, json.dumps(self._state["bench"].counts()).encode())
        elif path.endswith("/chat/completions"):
            self._complete(self._state["bench"], body)
        elif path.endswith("/models") and method == "GET":
            self._send(200, _MODELS)
        else:
            self._send(404, _ERROR)

    def _complete(self, bench: Bench, body: bytes) -> None:
        now = time.monotonic()
        bench.requests += 1
        bench.in_flight += 1
        bench.peak = max(bench.peak, bench.in_flight)
        request = json.loads(body)
        turns = " ".join(str(turn["content"]) for turn in request["messages"])
        asked = read_prompt(turns)
        fault = None
        if asked is None:
            bench.others += 1
            text, row = "Hello.", None
        else:
            row, style = asked
            bench.first_request = bench.first_request or now
            bench.asked[row] += 1
            fault = bench.fault(row)
            text = answer_text(row, style)
        asyncio.get_running_loop().call_later(bench.delay(), self._answer, bench, row, fault, text, request["model"])

    def _answer(self, bench: Bench, row: int | None, fault: str | None, text: str, model: str) -> None:
        bench.in_flight -= 1
        bench.last_answer = time.monotonic()
        if self._transport is None:
            return
        if fault is not None:
            bench.faults[fault] += 1
            self._spoil(fault, text, model)
        else:
            if row is not None:
                bench.answered[row] += 1
            self._send(200, completion(text, model))

    def _spoil(self, fault: str, text: str, model: str) -> None:
        assert self._transport is not None
        whole = completion(text, model)
        if fault == "429":
            self._send(429, _ERROR, "Retry-After: 1\r\n")
        elif fault == "500":
            self._send(500, _ERROR)
        elif fault == "malformed":
            self._send(200, whole[: len(whole) // 2] + b"%%%}")
        elif fault == "empty":
            self._send(200, completion("", model))
        elif fault == "truncated":
            self._transport.write(_head(200, len(whole)) + whole[: len(whole) // 2])
            self._transport.close()
        else:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def _send(self, status: int, body: bytes, headers: str = "") -> None:
        if self._transport is not None:
            self._transport.write(_head(status, len(body), headers) + body)


def _head(status: int, length: int, headers: str = "") -> bytes:
    line = f"HTTP/1.1 {status} Scripted\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{headers}"
    # One client asks what it may send per minute before it sends anything.
    limits = "x-ratelimit-limit-requests: 10000000\r\nx-ratelimit-limit-tokens: 10000000000\r\n"
    return f"{line}{limits}\r\n".encode()


def _dechunk(data: bytes) -> tuple[bytes, int] | None:
    """Return a chunked body and how many bytes it took, ``None`` while some are missing."""
    body, place = b"", 0
    while True:
        end = data.find(b"\r\n", place)
        if end < 0:
            return None
        size = int(data[place:end].split(b";")[0], 16)
        if len(data) < end + 2 + size + 2:
            return None
        body += data[end + 2 : end + 2 + size]
        place = end + 2 + size + 2
        if size == 0:
            return body, place


def completion(text: str, model: str) -> bytes:
    """Return the body of a chat completion."""
    usage = {"prompt_tokens": 60, "completion_tokens": len(text.split()), "total_tokens": 60 + len(text.split())}
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    whole = {"id": "bench", "object": "chat.completion", "created": 0, "model": model, "choices": [choice], "usage": usage}
    return json.dumps(whole).encode()


class Server:
    """The server in a process of its own; a context manager.

    Attributes:
        base_url: what a client is given.
    """

    def __init__(self, latency: float = 0.2) -> None:
        command = [sys.executable, "-m", "benchmarks.clients.server", "--latency", str(latency)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def reset(self, latency: float, *, jitter: float = 0.0, fault_rate: float = 0.0) -> None:
        """Start new counts."""
        self._control({"latency": latency, "jitter": jitter, "fault_rate": fault_rate})

    def counts(self) -> dict[str, Any]:
        """Return what it saw since the last `reset`."""
        return self._control(None)

    def _control(self, values: dict[str, float] | None) -> dict[str, Any]:
        data = None if values is None else json.dumps(values).encode()
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/control", data, timeout=60) as reply:
            found: dict[str, Any] = json.load(reply)
        # JSON has no numbers as keys.
        found["asked"] = {int(row): count for row, count in found["asked"].items()}
        return found


async def _serve(options: argparse.Namespace) -> None:
    state = {"bench": Bench(options.latency, options.jitter, options.fault_rate)}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(state), "127.0.0.1", options.port, backlog=4096)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await stop.wait()


def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(description="A counting chat completions server on 127.0.0.1.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds per answer")
    parser.add_argument("--jitter", type=float, default=0.0, help="share of the latency")
    parser.add_argument("--fault-rate", type=float, default=0.0, help="share of requests that are spoilt")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
