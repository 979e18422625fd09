"""data-designer: one text column over a seed table of rows, artifacts in the state folder.

Row groups are 100 rows, so that a killed run loses little (the default, 1,000, loses all of a small run).
"""

from __future__ import annotations

import os
from importlib.metadata import version

# The library reads these when it is imported; what is measured stays on this machine.
os.environ.update({"NEMO_TELEMETRY_ENABLED": "false", "HF_HUB_OFFLINE": "1"})

import data_designer.config as dd
import pyarrow as pa
import pyarrow.parquet as pq
from benchmarks.clients.common import MODEL, Job, run
from data_designer.interface import DataDesigner

_ROW_GROUP = 100


def work(job: Job) -> dict[int, str | None]:
    """Return row -> text."""
    seed = job.state / "seed.parquet"
    pq.write_table(pa.table({"row": list(range(job.n)), "ask": [job.prompts(row)[1] for row in range(job.n)]}), seed)
    parameters = dd.ChatCompletionInferenceParams(max_tokens=job.max_tokens, max_parallel_requests=job.concurrency)
    model = dd.ModelConfig(alias="writer", model=MODEL, provider="bench", inference_parameters=parameters)
    builder = dd.DataDesignerConfigBuilder(model_configs=[model])
    builder.with_seed_dataset(dd.LocalFileSeedSource(path=str(seed)))
    builder.add_column(
        dd.LLMTextColumnConfig(name="text", model_alias="writer", prompt="{{ ask }}", system_prompt=job.prompts(0)[0])
    )
    provider = dd.ModelProvider(name="bench", endpoint=job.base_url, provider_type="openai")
    designer = DataDesigner(artifact_path=job.state / "artifacts", model_providers=[provider])
    designer.set_run_config(dd.RunConfig(buffer_size=_ROW_GROUP))
    made = designer.create(builder, num_records=job.n, resume=dd.ResumeMode.IF_POSSIBLE).load_dataset()
    return {int(row): text for row, text in zip(made["row"], made["text"], strict=True)}


if __name__ == "__main__":
    run(work, version("data-designer"))
