"""The openai SDK as its readme shows it: one asynchronous client, its own retries."""

from __future__ import annotations

import asyncio

import openai
from benchmarks.clients.common import MODEL, Job, gather, run


def work(job: Job) -> dict[int, str | None]:
    """Return row -> text; ``None`` where the SDK raised after its retries."""
    return asyncio.run(_all(job))


async def _all(job: Job) -> dict[int, str | None]:
    async with openai.AsyncOpenAI(base_url=job.base_url, api_key="none") as client:

        async def ask(row: int) -> str | None:
            system, user = job.prompts(row)
            turns = [{"role": "system", "content": system}, {"role": "user", "content": user}]
            try:
                answer = await client.chat.completions.create(model=MODEL, messages=turns, max_tokens=job.max_tokens)
                return str(answer.choices[0].message.content)
            except (openai.OpenAIError, ValueError):
                return None

        return await gather(job, ask)


if __name__ == "__main__":
    run(work, openai.__version__)
