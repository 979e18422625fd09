"""bespokelabs-curator: ``curator.LLM`` over a list of rows, its cache in the state folder."""

from __future__ import annotations

import os
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# The library reads these when it is imported; what is measured stays on this machine.
os.environ.update({"TELEMETRY_ENABLED": "false", "HF_HUB_OFFLINE": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"})
os.environ.setdefault("OPENAI_API_KEY", "none")
# It counts tokens with a table that would be downloaded; litellm, which it needs, brings the same file along.
_LITELLM = find_spec("litellm")
if _LITELLM is not None and _LITELLM.origin:
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(Path(_LITELLM.origin).parent / "litellm_core_utils" / "tokenizers"))

from benchmarks.clients.common import MODEL, Job, run  # noqa: E402
from bespokelabs import curator  # noqa: E402


class Rows(curator.LLM):  # type: ignore[misc]
    """One message per row, its number kept beside the text."""

    def prompt(self, input: dict[str, Any]) -> str:
        """Return the user prompt."""
        return str(input["prompt"])

    def parse(self, input: dict[str, Any], response: str) -> dict[str, Any]:
        """Keep the row's number."""
        return {"row": input["row"], "text": response}


def work(job: Job) -> dict[int, str | None]:
    """Return row -> text."""
    rows = [{"row": row, "prompt": job.prompts(row)[1]} for row in range(job.n)]
    limits = {"max_requests_per_minute": 10_000_000, "max_tokens_per_minute": 10_000_000_000}
    writer = Rows(
        model_name=MODEL,
        backend="openai",
        system_prompt=job.prompts(0)[0],
        generation_params={"max_tokens": job.max_tokens},
        # What was answered is wanted even where a row failed for good; the default would raise.
        backend_params={
            "base_url": job.base_url,
            "max_concurrent_requests": job.concurrency,
            "require_all_responses": False,
            **limits,
        },
    )
    found = writer(rows, working_dir=str(job.state)).dataset
    return {int(row["row"]): row["text"] for row in found}


if __name__ == "__main__":
    run(work, version("bespokelabs-curator"))
