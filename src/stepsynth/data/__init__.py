"""Gold data: read it, refuse what is wrong with it, cut it, and keep the test set sealed.

    validation = load_validation(config)  # harvest feeds mistakes, select picks checkpoints
    info = SealedTest(config).inspect()  # counts and a digest, no text

Every problem in the user's data is a `DataError` of one line, raised before anything is spent.
"""

from __future__ import annotations

from stepsynth.data.gold import SealedInfo, SealedTest, Validation, load_source, load_validation
from stepsynth.data.texts import load_texts

__all__ = ["SealedInfo", "SealedTest", "Validation", "load_source", "load_texts", "load_validation"]
