"""What the wrong cases of the real-input runs have in common; statistics only, no texts.

    STEPSYNTH_DATA=FOLDER python benchmarks/errors.py --runs runs/real_input

For each data set, over all seeds, for the student of the last s3 round: the error rate by gold
label, the commonest confusions, the error rate by length, by contrast or negation words, by the
student's confidence, and how many of its errors the gold-trained student makes, too.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from stepsynth.config import load_config
from stepsynth.data import SealedTest
from stepsynth.journal import Journal

ROOT = Path(__file__).resolve().parents[1]
CONTRAST = re.compile(
    r"\b(?:but|though|although|yet|despite|however|instead|rather|not|never|no|without|hardly)\b|n't\b", re.IGNORECASE
)


def rates(pairs: list[tuple[str, bool]]) -> dict[str, str]:
    """Return group -> ``wrong of all (share)``."""
    groups: dict[str, list[bool]] = {}
    for group, wrong in pairs:
        groups.setdefault(group, []).append(wrong)
    return {group: f"{sum(w)} of {len(w)} ({100 * sum(w) / len(w):.0f} %)" for group, w in sorted(groups.items())}


def analyse(name: str, runs: Path, cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the statistics of one data set."""
    by_label, by_length, by_contrast, by_confidence = [], [], [], []
    confusions: Counter[str] = Counter()
    shared = wrong_rows = 0
    for cell in (c for c in cells if c["data"] == name):
        config = load_config(ROOT / "examples" / f"{name}.yaml", [f"seed={cell['seed']}"])
        examples = SealedTest(config).open()
        with closing(Journal(runs / f"default-{name}-{cell['seed']}-s3" / "journal.db")) as journal:
            predictions = journal.graded(journal.rounds()[-1], "test")
        lengths = sorted(len(e.text.split()) for e in examples)
        low, high = lengths[len(lengths) // 3], lengths[2 * len(lengths) // 3]
        for example, graded, gold_right in zip(examples, predictions, cell["correct"]["gold"], strict=True):
            prediction, gold, wrong = graded.prediction, graded.gold, graded.score < 1.0
            words = len(example.text.split())
            by_label.append((gold, wrong))
            length = f"1 up to {low} words" if words <= low else f"2 up to {high} words" if words <= high else "3 longer"
            by_length.append((length, wrong))
            by_contrast.append(("with" if CONTRAST.search(example.text) else "without", wrong))
            by_confidence.append(("sure (over .9)" if prediction.confidence > 0.9 else "unsure", wrong))
            if wrong:
                wrong_rows += 1
                shared += gold_right == "0"
                confusions[f"{gold} -> {prediction.label}"] += 1
    return {
        "wrong by gold label": rates(by_label),
        "wrong by length": rates(by_length),
        "wrong by contrast or negation word": rates(by_contrast),
        "wrong by confidence": rates(by_confidence),
        "commonest confusions": dict(confusions.most_common(6)),
        "also wrong for the gold-trained student": f"{shared} of {wrong_rows} ({100 * shared / max(1, wrong_rows):.0f} %)",
    }


def main() -> None:
    """Print the statistics and write them beside the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "real_input")
    options = parser.parse_args()
    cells = json.loads((ROOT / "benchmarks" / "results" / "real_input-default.json").read_text())["cells"]
    found = {name: analyse(name, options.runs, cells) for name in dict.fromkeys(c["data"] for c in cells)}
    (ROOT / "benchmarks" / "results" / "errors.json").write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
