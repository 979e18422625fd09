"""Execute the notebooks of ``examples/notebooks``: in tests with small models, as a program for the outputs that are stored.

python tests/notebooks.py [NAME...]      # minutes: with the models that the notebooks name; writes the files again
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

__all__ = ["NOTEBOOKS", "execute"]

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))
TIMEOUT_S = 900


def execute(path: Path, folder: Path, models: str = "") -> Any:
    """Return the executed notebook.

    Args:
        path: the notebook; it is not changed.
        folder: an empty folder, in which it runs beside copies of the rows that it reads.
        models: code in place of the cell tagged ``models``.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if models and "models" in cell["metadata"].get("tags", ()):
            cell["source"] = models
    shutil.copytree(ROOT / "examples" / "shop", folder / "shop")
    place = folder / "notebooks"
    place.mkdir()
    client = NotebookClient(
        notebook, timeout=TIMEOUT_S, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(place)}}
    )
    return client.execute()


def main(names: list[str]) -> None:
    """Write the outputs of notebooks again; see the module's docstring."""
    for path in NOTEBOOKS:
        if names and path.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder:
            done = execute(path, Path(folder))
            nbformat.write(for_readers(done, Path(folder).resolve() / "notebooks"), path)


def for_readers(notebook: Any, place: Path) -> Any:
    """Return the notebook without what only concerns the machine that it ran on: folders, and warnings of libraries."""
    for cell in notebook.cells:
        kept = [output for output in cell.get("outputs", ()) if output.get("name") != "stderr"]
        for output in kept:
            for holder, key in [(output, "text"), *((output.get("data", {}), kind) for kind in ("text/plain", "text/html"))]:
                if key in holder:
                    holder[key] = holder[key].replace(f"{place}/", "")
        if "outputs" in cell:
            cell["outputs"] = kept
    return notebook


if __name__ == "__main__":
    main(sys.argv[1:])
