"""S4: data never becomes code. No pickle, no eval, no remote code, no unsafe YAML; weights from safetensors only."""

from __future__ import annotations

import ast
import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stepsynth.config import StudentConfig
from stepsynth.errors import ConfigError, RunError
from stepsynth.students.pretrained import load_base, load_trained
from tiny_model import build_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
MODULES = {"cPickle", "cloudpickle", "code", "codeop", "dill", "joblib", "marshal", "pickle", "runpy", "shelve"}
CALLS = {
    *("eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.jit.load", "torch.hub.load"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "numpy.load", "np.load", "pandas.read_pickle"),
    *("subprocess.getoutput", "subprocess.getstatusoutput", "jinja2.Environment", "jinja2.Template"),
}
# Arguments that hand data to an interpreter unless they are False.
SWITCHES = {"trust_remote_code", "shell", "allow_pickle"}


def findings(source: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield file and offence."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((name, alias.name) for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES:
                yield name, str(node.module)
            yield from ((name, f"{node.module}.{a.name}") for a in node.names if f"{node.module}.{a.name}" in CALLS)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in CALLS:
                yield name, called
            for keyword in node.keywords:
                if keyword.arg in SWITCHES and ast.unparse(keyword.value) != "False":
                    yield name, f"{called}({keyword.arg})"
            if called.endswith("from_pretrained") and "trust_remote_code" not in _switched(node):
                yield name, f"{called} without trust_remote_code=False"
            if called.rpartition(".")[2] == "create_subprocess_shell":
                yield name, called
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            yield from (
                (name, f"{key.value}: {ast.unparse(value)}")
                for key, value in pairs
                if isinstance(key, ast.Constant) and key.value in SWITCHES and ast.unparse(value) != "False"
            )


def _switched(node: ast.Call) -> set[str]:
    """Return the names of a call's arguments; those of ``**_LOCAL`` are read where it is defined."""
    names = {keyword.arg or "" for keyword in node.keywords}
    return names | ({"trust_remote_code"} if any(ast.unparse(k.value) == "_LOCAL" for k in node.keywords if not k.arg) else set())


def test_s04_no_file_makes_code_of_data() -> None:
    assert len(FILES) > 60
    found = {finding for path in FILES for finding in findings(path.read_text(encoding="utf-8"), str(path.relative_to(ROOT)))}
    # Benchmarks load folders that they made themselves; the library's default is False there.
    assert {
        each for each in found if not (each[0].startswith("benchmarks") and each[1].endswith("trust_remote_code=False"))
    } == set()


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "import torch\ntorch.load(path)",
        "eval(text)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "from yaml import unsafe_load",
        "AutoModel.from_pretrained(name, trust_remote_code=config.trust)",
        "AutoModel.from_pretrained(name)",
        "settings = {'trust_remote_code': True}",
        "numpy.load(path, allow_pickle=True)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_s04_the_search_sees_what_it_looks_for(line: str) -> None:
    assert list(findings(line, "x.py"))


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, where: Path) -> None:
        self.where = where

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.where),)


def armed(folder: Path, bomb: Path) -> Path:
    """Return a student's folder whose weights are a pickle that acts when it is read."""
    import pickle

    build_tiny_model(folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(bomb)))
    return folder


def test_s04_a_base_model_with_pickled_weights_is_refused_and_not_read(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = armed(tmp_path / "student", tmp_path / "owned")
    with pytest.raises(ConfigError, match="safetensors"):
        load_base(AutoModelForSequenceClassification, StudentConfig(model=str(folder)), num_labels=2)
    assert not (tmp_path / "owned").exists()


def test_s04_a_trained_student_with_pickled_weights_is_refused_and_not_read(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = armed(tmp_path / "round-0", tmp_path / "owned")
    (folder / "training.json").write_text('{"max_length": 8}')
    with pytest.raises(RunError, match="cannot be loaded"):
        load_trained(AutoModelForSequenceClassification, folder, ["max_length"])
    assert not (tmp_path / "owned").exists()


def test_s04_the_bomb_would_go_off(tmp_path: Path) -> None:
    """Otherwise the two tests before would show nothing."""
    import pickle

    pickle.loads(pickle.dumps(Bomb(tmp_path / "owned")))
    assert (tmp_path / "owned").is_dir()


@pytest.mark.parametrize("which", ["model", "tokenizer"])
def test_s04_code_that_comes_with_a_model_is_not_run(tmp_path: Path, which: str) -> None:
    """An ``auto_map`` to a Python file in the folder, which transformers would import if it were allowed to."""
    from transformers import AutoModelForSequenceClassification

    folder = build_tiny_model(tmp_path / "student")
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'owned')!r})\nclass Evil: pass\n")
    name = "config.json" if which == "model" else "tokenizer_config.json"
    settings = json.loads((folder / name).read_text())
    mapped = {"AutoConfig": "evil.Evil", "AutoModelForSequenceClassification": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
    settings |= (
        {"auto_map": mapped, "model_type": "evil"} if which == "model" else {"auto_map": mapped, "tokenizer_class": "Evil"}
    )
    (folder / name).write_text(json.dumps(settings))
    # Whether it is refused or loaded without that code is the library's choice.
    with contextlib.suppress(ConfigError):
        load_base(AutoModelForSequenceClassification, StudentConfig(model=str(folder)), num_labels=2)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("text", ["!!python/object/apply:os.mkdir ['{}']", "!!python/name:os.system", "x: !!python/module:os"])
def test_s04_a_config_with_tags_of_python_is_refused(tmp_path: Path, text: str) -> None:
    from stepsynth.config import load_config

    (tmp_path / "config.yaml").write_text(text.format(tmp_path / "owned"))
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(tmp_path / "config.yaml")
    assert not (tmp_path / "owned").exists()
