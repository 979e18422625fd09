"""Bare asyncio streams, one connection per worker: the least that a client can do."""

from __future__ import annotations

import asyncio
import json
import platform
from urllib.parse import urlsplit

from benchmarks.clients.common import MODEL, Job, gather, run


def work(job: Job) -> dict[int, str | None]:
    """Return row -> text; a spoilt answer is ``None``, nothing is asked twice."""
    return asyncio.run(_all(job))


async def _all(job: Job) -> dict[int, str | None]:
    parts = urlsplit(job.base_url)
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(row: int) -> str | None:
        reader, writer = free.pop() if free else await asyncio.open_connection(parts.hostname, parts.port)
        system, user = job.prompts(row)
        turns = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        body = json.dumps({"model": MODEL, "messages": turns, "max_tokens": job.max_tokens}).encode()
        head = f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
        try:
            writer.write(head.encode() + body)
            status, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            length = next(int(line.split(":")[1]) for line in headers if line.lower().startswith("content-length"))
            answer = await reader.readexactly(length)
            free.append((reader, writer))
            return str(json.loads(answer)["choices"][0]["message"]["content"]) if " 200 " in status else None
        except (OSError, EOFError, ValueError):
            writer.close()
            return None

    found = await gather(job, ask)
    for _, writer in free:
        writer.close()
    return found


if __name__ == "__main__":
    run(work, platform.python_version())
