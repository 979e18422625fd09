"""aiohttp with one session: what a careful script without any framework would use."""

from __future__ import annotations

import asyncio

import aiohttp
from benchmarks.clients.common import MODEL, Job, gather, run


def work(job: Job) -> dict[int, str | None]:
    """Return row -> text; a spoilt answer is ``None``, nothing is asked twice."""
    return asyncio.run(_all(job))


async def _all(job: Job) -> dict[int, str | None]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=job.concurrency)) as session:

        async def ask(row: int) -> str | None:
            system, user = job.prompts(row)
            turns = [{"role": "system", "content": system}, {"role": "user", "content": user}]
            body = {"model": MODEL, "messages": turns, "max_tokens": job.max_tokens}
            try:
                async with session.post(f"{job.base_url}/chat/completions", json=body) as response:
                    response.raise_for_status()
                    return str((await response.json())["choices"][0]["message"]["content"])
            except (aiohttp.ClientError, OSError, ValueError):
                return None

        return await gather(job, ask)


if __name__ == "__main__":
    run(work, aiohttp.__version__)
