"""distilabel: a pipeline of one text generation step, its cache in the state folder.

The step asks for one input batch at a time, all of it at once: the batch size is the concurrency.
"""

from __future__ import annotations

import logging
import os
from importlib.metadata import version

os.environ.update({"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"})

from benchmarks.clients.common import MODEL, Job, run
from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration

# It silences the HTTP library of older SDKs by name; unsilenced, the newer one prints a line per request.
logging.getLogger("httpx2").setLevel(logging.WARNING)


def work(job: Job) -> dict[int, str | None]:
    """Return row -> text."""
    system = job.prompts(0)[0]
    rows = [{"row": row, "instruction": job.prompts(row)[1], "system_prompt": system} for row in range(job.n)]
    llm = OpenAILLM(model=MODEL, base_url=job.base_url, api_key="none", generation_kwargs={"max_new_tokens": job.max_tokens})
    with Pipeline(name="bench", cache_dir=job.state) as pipeline:
        load = LoadDataFromDicts(data=rows, batch_size=job.concurrency)
        write = TextGeneration(llm=llm, input_batch_size=job.concurrency)
        load >> write
    made = pipeline.run(use_cache=True)["default"]["train"]
    return {int(row["row"]): row["generation"] for row in made}


if __name__ == "__main__":
    run(work, version("distilabel"))
