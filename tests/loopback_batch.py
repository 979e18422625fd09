"""A provider on 127.0.0.1 with batch APIs, OpenAI's and Anthropic's, that counts what it ran and misbehaves on request.

    with BatchServer(polls=2) as server:
        ...  # hand batches in at server.base_url (OpenAI) or server.root (Anthropic)
        assert max(server.ran.values()) == 1

It is the standard library's HTTP server, so that it shares no code with what it tests. Requests of
both kinds, live and in batches, get the same answer for the same body.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loopback import LoopbackServer, completion

__all__ = ["BatchServer", "HeldBatch"]

# A row's fate: HTTP status and body in place of an answer, "expired", or nothing for an answer.
Fate = tuple[int, dict[str, Any]] | str | None


@dataclass
class HeldBatch:
    """A batch as the provider keeps it.

    Attributes:
        id: the provider's name of it.
        kind: ``openai`` or ``anthropic``.
        rows: custom id and the body of the request.
        metadata: as it was created with.
        source: id of the uploaded file.
        created: seconds since 1970.
        polls: how often it was asked after.
        status: the provider's word.
        results: what came of it: custom id, body, fate.
    """

    id: str
    kind: str
    rows: list[tuple[str, dict[str, Any]]]
    metadata: dict[str, str] | None
    source: str
    created: float
    polls: int = 0
    status: str = "in_progress"
    results: list[tuple[str, dict[str, Any], Fate]] = field(default_factory=list)


class BatchServer:
    """The provider, in threads of its own. Everything in here may be set while it runs.

    Args:
        polls: how often a batch must be asked after until it has ended.
        fate: custom id, body and how often that request was run before -> its fate.
        run_at_most: rows of a batch that are run before it expires.
        refuse: message with which batches fail their validation.
        create_status: status (and no batch) for the first creations.
        lose: creations, counted from 1, whose batch comes to be but whose answer is lost.
        lose_before: creations that are lost on their way: no batch comes to be.
        unlisted: how often the list is asked for before new batches are in it.
        metadata: whether metadata is kept.
        cut_results: downloads, counted from 1, that break off in the middle.
        api_key: the key it insists on.
        created: told when a batch has come to be, before the client is.
        labels: labels that answers look for in the prompt.

    Attributes:
        gone: whether results and batches are forgotten.
        down: whether every connection is dropped.
        batches: by id, in order of creation.
        ran: how often each request was run to an answer, by the first 40 digits of its key, in whatever batch.
        live: completions that were asked for one by one.
        calls: method and path of everything that came.
    """

    def __init__(
        self,
        *,
        polls: int = 1,
        fate: Callable[[str, dict[str, Any], int], Fate] | None = None,
        run_at_most: int | None = None,
        refuse: str = "",
        create_status: tuple[int, ...] = (),
        lose: frozenset[int] = frozenset(),
        lose_before: frozenset[int] = frozenset(),
        unlisted: int = 0,
        metadata: bool = True,
        cut_results: frozenset[int] = frozenset(),
        api_key: str | None = None,
        created: Callable[[HeldBatch], None] | None = None,
        labels: Sequence[str] = (),
    ) -> None:
        self.polls, self.fate, self.run_at_most, self.refuse = polls, fate, run_at_most, refuse
        self.create_status, self.lose, self.lose_before, self.unlisted = list(create_status), lose, lose_before, unlisted
        self.metadata, self.cut_results, self.api_key, self.created = metadata, cut_results, api_key, created
        self.gone = self.down = False
        self.batches: dict[str, HeldBatch] = {}
        self.files: dict[str, tuple[str, bytes]] = {}
        self.ran: Counter[str] = Counter()
        self.tried: Counter[str] = Counter()
        self.live: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self.creations = self.downloads = 0
        self._lock = threading.RLock()
        self._voice = LoopbackServer(labels=labels)

        class Handler(_Handler):
            provider = self

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def root(self) -> str:
        """What belongs into ``teacher.base_url`` for Anthropic."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def base_url(self) -> str:
        """What belongs into ``teacher.base_url`` for OpenAI."""
        return f"{self.root}/v1"

    def __enter__(self) -> BatchServer:
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    # what the provider does ------------------------------------------------------------

    def text(self, body: dict[str, Any]) -> dict[str, Any]:
        """Return the completion of a chat: the same for the same body, however it came."""
        answer = self._voice.answer(body)
        return answer if isinstance(answer, dict) else completion(answer, body)

    def create(
        self, kind: str, rows: list[tuple[str, dict[str, Any]]], metadata: dict[str, str] | None, source: str
    ) -> HeldBatch:
        """Make a batch."""
        batch = HeldBatch(f"batch_{len(self.batches)}", kind, rows, metadata, source, time.time())
        self.batches[batch.id] = batch
        if self.refuse and kind == "openai":
            batch.status = "failed"
        return batch

    def advance(self, batch: HeldBatch) -> None:
        """Take note of being asked; run the batch when it was asked often enough."""
        batch.polls += 1
        if batch.status == "in_progress" and batch.polls >= self.polls:
            self.run(batch)

    def run(self, batch: HeldBatch, status: str = "") -> None:
        """Run a batch to its end."""
        for position, (name, body) in enumerate(batch.rows):
            beyond = self.run_at_most is not None and position >= self.run_at_most
            fate: Fate = "expired" if beyond else self.fate(name, body, self.tried[name[:40]]) if self.fate else None
            if fate != "expired":
                self.tried[name[:40]] += 1
                self.ran[name[:40]] += fate is None
            batch.results.append((name, body, fate))
        some_expired = any(fate == "expired" for _, _, fate in batch.results)
        batch.status = status or ("expired" if some_expired else "completed")

    def entries(self, kind: str) -> list[HeldBatch]:
        """Return the list of batches, newest first."""
        if self.unlisted > 0:
            self.unlisted -= 1
            return []
        return [batch for batch in reversed(self.batches.values()) if batch.kind == kind]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are written one after the other; Nagle would keep the body back for 40 ms.
    disable_nagle_algorithm = True
    provider: BatchServer

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        self._route("GET")

    def do_POST(self) -> None:
        self._route("POST")

    def _route(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        with self.provider._lock:
            if self.provider.down:
                self._drop()
                return
            self.provider.calls.append(f"{method} {self.path}")
            given = self.headers.get("x-api-key") or (self.headers.get("authorization") or "").removeprefix("Bearer ")
            if self.provider.api_key is not None and given != self.provider.api_key:
                self._say(401, _error(f"no such key: {given}"))
                return
            for pattern, answer in _ROUTES.items():
                found = re.fullmatch(pattern, f"{method} {parts.path}")
                if found:
                    answer(self, body, parse_qs(parts.query), *found.groups())
                    return
            self._say(404, _error(f"no such route: {method} {parts.path}"))

    def _say(self, status: int, value: Mapping[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _drop(self) -> None:
        """End the connection with a reset and without a word."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _lines(self, lines: Iterator[dict[str, Any]]) -> None:
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        provider = self.provider
        provider.downloads += 1
        self.send_response(200)
        self.send_header("Content-Type", "application/x-jsonl")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if provider.downloads in provider.cut_results:
            # Not a reset, which would take back what was sent.
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        else:
            self.wfile.write(data)

    # both ------------------------------------------------------------------------------

    def _create(self, kind: str, rows: list[tuple[str, dict[str, Any]]], metadata: dict[str, str] | None, source: str) -> None:
        provider = self.provider
        provider.creations += 1
        if provider.create_status:
            self._say(provider.create_status.pop(0), _error("scripted"))
            return
        if provider.creations in provider.lose_before:
            self._drop()
            return
        batch = provider.create(kind, rows, metadata, source)
        if provider.created is not None:
            provider.created(batch)
        if provider.creations in provider.lose:
            self._drop()
        else:
            self._say(200, _SHOWN[kind](provider, batch))

    def _list(self, kind: str, query: dict[str, list[str]], after: str) -> tuple[list[dict[str, Any]], bool]:
        entries = self.provider.entries(kind)
        for batch in entries:
            self.provider.advance(batch)
        if after in query:
            entries = entries[[batch.id for batch in entries].index(query[after][0]) + 1 :]
        limit = int(query.get("limit", ["20"])[0])
        return [_SHOWN[kind](self.provider, batch) for batch in entries[:limit]], len(entries) > limit

    def _batch(self, name: str) -> HeldBatch | None:
        batch = None if self.provider.gone else self.provider.batches.get(name)
        if batch is None:
            self._say(404, _error(f"no such batch: {name}"))
        return batch

    # OpenAI ----------------------------------------------------------------------------

    def models(self, _body: bytes, _query: object) -> None:
        self._say(200, {"object": "list", "data": [{"id": "loopback"}]})

    def complete(self, body: bytes, _query: object) -> None:
        asked = json.loads(body)
        self.provider.live.append(asked)
        self._say(200, self.provider.text(asked))

    def upload(self, body: bytes, _query: object) -> None:
        head = f"Content-Type: {self.headers['content-type']}\r\n\r\n".encode()
        form = {part.get_param("name", header="content-disposition"): part for part in _parts(head + body)}
        purpose = form["purpose"].get_payload(decode=True).strip()
        if purpose != b"batch":
            self._say(400, _error(f"purpose {purpose!r}"))
            return
        name = f"file_{len(self.provider.files)}"
        file = form["file"]
        self.provider.files[name] = (str(file.get_filename()), file.get_payload(decode=True))
        self._say(200, {"id": name, "object": "file", "filename": file.get_filename(), "purpose": "batch"})

    def file(self, _body: bytes, _query: object, name: str) -> None:
        if name in self.provider.files:
            self._say(200, {"id": name, "object": "file", "filename": self.provider.files[name][0]})
        else:
            self._say(404, _error(f"no such file: {name}"))

    def content(self, _body: bytes, _query: object, name: str) -> None:
        kind, _, batch_id = name.partition("-")
        batch = self._batch(batch_id)
        if batch is not None:
            self._lines(_openai_lines(self.provider, batch, errors=kind == "errors"))

    def create_openai(self, body: bytes, _query: object) -> None:
        asked = json.loads(body)
        assert asked["endpoint"] == "/v1/chat/completions"
        assert asked["completion_window"] == "24h"
        lines = [json.loads(line) for line in self.provider.files[asked["input_file_id"]][1].splitlines()]
        assert all(line["method"] == "POST" and line["url"] == asked["endpoint"] for line in lines)
        rows = [(line["custom_id"], line["body"]) for line in lines]
        metadata = asked.get("metadata") if self.provider.metadata else None
        self._create("openai", rows, metadata, asked["input_file_id"])

    def list_openai(self, _body: bytes, query: dict[str, list[str]]) -> None:
        entries, more = self._list("openai", query, "after")
        self._say(200, {"object": "list", "data": entries, "has_more": more})

    def get_openai(self, _body: bytes, _query: object, name: str) -> None:
        batch = self._batch(name)
        if batch is not None:
            self.provider.advance(batch)
            self._say(200, _openai(self.provider, batch))

    def cancel_openai(self, _body: bytes, _query: object, name: str) -> None:
        batch = self._batch(name)
        if batch is not None:
            self.provider.run(batch, "cancelled")
            self._say(200, _openai(self.provider, batch))

    # Anthropic -------------------------------------------------------------------------

    def message(self, body: bytes, _query: object) -> None:
        asked = json.loads(body)
        self.provider.live.append(asked)
        self._say(200, _message(self.provider, asked))

    def create_anthropic(self, body: bytes, _query: object) -> None:
        if self.provider.refuse:
            self._say(400, {"type": "error", "error": {"type": "invalid_request_error", "message": self.provider.refuse}})
            return
        rows = [(row["custom_id"], row["params"]) for row in json.loads(body)["requests"]]
        assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name, _ in rows)
        assert len({name for name, _ in rows}) == len(rows)
        self._create("anthropic", rows, None, "")

    def list_anthropic(self, _body: bytes, query: dict[str, list[str]]) -> None:
        entries, more = self._list("anthropic", query, "after_id")
        last = entries[-1]["id"] if entries else None
        self._say(200, {"data": entries, "has_more": more, "first_id": None, "last_id": last})

    def get_anthropic(self, _body: bytes, _query: object, name: str) -> None:
        batch = self._batch(name)
        if batch is not None:
            self.provider.advance(batch)
            self._say(200, _anthropic(self.provider, batch))

    def results(self, _body: bytes, _query: object, name: str) -> None:
        batch = self._batch(name)
        if batch is not None:
            self._lines(_anthropic_lines(self.provider, batch))

    def cancel_anthropic(self, _body: bytes, _query: object, name: str) -> None:
        batch = self._batch(name)
        if batch is not None:
            self.provider.run(batch, "cancelled")
            self._say(200, _anthropic(self.provider, batch))


_ROUTES: dict[str, Callable[..., None]] = {
    "GET /v1/models": _Handler.models,
    "POST /v1/chat/completions": _Handler.complete,
    "POST /v1/files": _Handler.upload,
    "GET /v1/files/([^/]+)": _Handler.file,
    "GET /v1/files/([^/]+)/content": _Handler.content,
    "POST /v1/batches": _Handler.create_openai,
    "GET /v1/batches": _Handler.list_openai,
    "GET /v1/batches/([^/]+)": _Handler.get_openai,
    "POST /v1/batches/([^/]+)/cancel": _Handler.cancel_openai,
    "POST /v1/messages": _Handler.message,
    "POST /v1/messages/batches": _Handler.create_anthropic,
    "GET /v1/messages/batches": _Handler.list_anthropic,
    "GET /v1/messages/batches/([^/]+)": _Handler.get_anthropic,
    "GET /v1/messages/batches/([^/]+)/results": _Handler.results,
    "POST /v1/messages/batches/([^/]+)/cancel": _Handler.cancel_anthropic,
}


def _parts(message: bytes) -> list[Any]:
    return list(BytesParser(policy=HTTP).parsebytes(message).iter_parts())


def _error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", "code": None}}


def _openai(provider: BatchServer, batch: HeldBatch) -> dict[str, Any]:
    ended = batch.status in {"completed", "expired", "cancelled"}
    fates = [fate for _, _, fate in batch.results]
    problems = {"object": "list", "data": [{"code": "invalid", "message": provider.refuse}]}
    return {
        "id": batch.id,
        "object": "batch",
        "status": batch.status,
        "errors": problems if batch.status == "failed" else None,
        "input_file_id": batch.source,
        "output_file_id": f"output-{batch.id}" if ended and None in fates else None,
        "error_file_id": f"errors-{batch.id}" if ended and any(fate is not None for fate in fates) else None,
        "created_at": int(batch.created),
        "metadata": batch.metadata,
        "request_counts": {
            "total": len(batch.rows),
            "completed": fates.count(None),
            "failed": len(fates) - fates.count(None),
        },
    }


def _openai_lines(provider: BatchServer, batch: HeldBatch, *, errors: bool) -> Iterator[dict[str, Any]]:
    # Providers promise no order.
    for number, (name, body, fate) in enumerate(reversed(batch.results)):
        if errors != (fate is not None):
            continue
        line: dict[str, Any] = {"id": f"batch_req_{number}", "custom_id": name, "response": None, "error": None}
        if fate == "expired":
            line["error"] = {"code": "batch_expired", "message": "This request could not be executed in time."}
        elif isinstance(fate, tuple):
            line["response"] = {"status_code": fate[0], "request_id": "r", "body": fate[1]}
        else:
            line["response"] = {"status_code": 200, "request_id": "r", "body": provider.text(body)}
        yield line


def _anthropic(_provider: BatchServer, batch: HeldBatch) -> dict[str, Any]:
    fates = [fate for _, _, fate in batch.results]
    ended = batch.status != "in_progress"
    counts = {
        "processing": 0 if ended else len(batch.rows),
        "succeeded": fates.count(None),
        "errored": sum(isinstance(fate, tuple) for fate in fates),
        "canceled": 0,
        "expired": fates.count("expired"),
    }
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if ended else "in_progress",
        "request_counts": counts,
        "created_at": datetime.fromtimestamp(batch.created, UTC).isoformat().replace("+00:00", "Z"),
        "results_url": "https://elsewhere.invalid/results" if ended else None,
        "archived_at": None,
    }


def _anthropic_lines(provider: BatchServer, batch: HeldBatch) -> Iterator[dict[str, Any]]:
    for name, body, fate in reversed(batch.results):
        if fate == "expired":
            result: dict[str, Any] = {"type": "expired"}
        elif isinstance(fate, tuple):
            result = {"type": "errored", "error": {"type": "error", **fate[1]}}
        else:
            result = {"type": "succeeded", "message": _message(provider, body)}
        yield {"custom_id": name, "result": result}


def _message(provider: BatchServer, body: dict[str, Any]) -> dict[str, Any]:
    """Return an answer in Anthropic's form."""
    system = body.get("system")
    turns = [{"role": "system", "content": _plain(system)}] if system else []
    turns += [{"role": turn["role"], "content": _plain(turn["content"])} for turn in body["messages"]]
    found = provider.text({**body, "messages": turns})
    (choice,), usage = found["choices"], found["usage"]
    return {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": choice["message"]["content"]}],
        "stop_reason": "max_tokens" if choice["finish_reason"] == "length" else "end_turn",
        "usage": {"input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"]},
    }


def _plain(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


_SHOWN = {"openai": _openai, "anthropic": _anthropic}
