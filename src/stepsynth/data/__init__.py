"""Gold data: read it, check it, split it, and keep the test set sealed.

    validation = load_validation(config)  # harvest feeds mistakes, select picks checkpoints
    contexts = load_contexts(config, validation.harvest)  # for pairs and questions to be written about
    info = SealedTest(config).inspect()  # counts and a digest, no text

Every problem in the user's data is a one-line `DataError`, raised before anything is spent.
"""

from __future__ import annotations

from stepsynth.data.columns import Tally
from stepsynth.data.contexts import load_contexts
from stepsynth.data.folds import Folds, deal_folds
from stepsynth.data.gold import SealedInfo, SealedTest, Validation, load_seed, load_source, load_validation
from stepsynth.data.importing import Imported, import_rows
from stepsynth.data.pool import Pool, load_pool
from stepsynth.data.texts import each_text, load_texts

__all__ = [
    "Folds",
    "Imported",
    "Pool",
    "SealedInfo",
    "SealedTest",
    "Tally",
    "Validation",
    "deal_folds",
    "each_text",
    "import_rows",
    "load_contexts",
    "load_pool",
    "load_seed",
    "load_source",
    "load_texts",
    "load_validation",
]
