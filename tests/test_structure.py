"""The shape of the package: who imports whom, what is exported, what is loaded, what must not occur in it."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepsynth.registry import FAMILIES, METHODS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "stepsynth"
MODULES = sorted(SOURCE.rglob("*.py"))
# Rooms by rank; a room imports lower ranks only.
RANKS = {
    **dict.fromkeys(("types", "errors", "registry", "runtime", "words", "near_duplicates"), 0),
    **dict.fromkeys(("config", "data", "tasks", "evaluation"), 1),
    **dict.fromkeys(("prompts", "filters", "teachers", "students", "journal", "model_cache"), 2),
    **dict.fromkeys(("methods", "run"), 3),
    **dict.fromkeys(("generation", "training"), 4),
    **dict.fromkeys(("loop", "comparison", "tracking"), 5),
    **dict.fromkeys(("report", "presets"), 6),
    **dict.fromkeys(("execution", "exporting", "planning"), 7),
    **dict.fromkeys(("sweeps",), 8),
    **dict.fromkeys(("api", "serving"), 9),
    **dict.fromkeys(("cli", "__main__", "testing"), 10),
}
# Siblings that may be used all the same: within ranks 0 and 1 the first names are the simpler ones,
# engines and students fetch their models from the model cache, an export opens a run as a command does, and the command line
# is one program.
SIBLINGS = {
    ("runtime", "errors"),
    ("registry", "errors"),
    ("near_duplicates", "runtime"),
    ("near_duplicates", "words"),
    ("data", "config"),
    ("data", "tasks"),
    ("tasks", "config"),
    ("tasks", "evaluation"),
    ("teachers", "model_cache"),
    ("run", "methods"),
    ("students", "model_cache"),
    ("exporting", "execution"),
    ("__main__", "cli"),
}
HEAVY = (
    "torch",
    "transformers",
    "openvino_genai",
    "datasets",
    "sklearn",
    "matplotlib",
    "pandas",
    "pyarrow",
    "aiohttp",
    "numpy",
    "scipy",
    "statsmodels",
    "textblob",
    "nltk",
    "vllm",
    "litellm",
    "gguf",
    "fastapi",
    "starlette",
    "uvicorn",
    "mlflow",
    "wandb",
    "tensorboard",
    "trackio",
    "ray",
)
# Times what Python takes for some of its own modules, on the same machine at the same time: 2.9 when this was written.
HELP_CPU = 4.5
OWN_MODULES = "import argparse, asyncio, email.message, http.client, json"


def dotted(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield every stepsynth module that a file imports, at its top, in functions or for its annotations."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "stepsynth")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            if node.module == "stepsynth":
                yield from (f"stepsynth.{alias.name}" for alias in node.names if not alias.name.startswith("__"))
            elif node.module and node.module.startswith("stepsynth."):
                yield node.module


def test_a_module_imports_lower_ranks_only() -> None:
    wrong = []
    for path in MODULES:
        own = room(dotted(path))
        # The face of the package: it imports a public name when somebody asks for it.
        if not own:
            continue
        for name in imported(ast.parse(path.read_text(encoding="utf-8"))):
            other = room(name)
            if own == other or (own, other) in SIBLINGS:
                continue
            if own not in RANKS or other not in RANKS or RANKS[other] >= RANKS[own]:
                wrong.append(f"{dotted(path)} imports {name}")
    assert not wrong


def test_every_room_has_a_rank_and_every_rank_a_room() -> None:
    assert {room(dotted(path)) for path in MODULES} - {""} == set(RANKS)


def method_branches(source: str) -> list[int]:
    """Return the lines that decide by a method's name: a comparison, a look-up, a case."""
    # The other names are also those of templates, of splits, of kinds of rows or of what trains a student.
    only_methods = {"s3", "seed-only", "goldgen", "s3+gold"}
    named = re.compile(r"(method|system)(\(\))?\.(name|method|fixed)\b")
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Compare():
                sides = [node.left, *node.comparators]
            case ast.Match():
                sides = [node.subject, *(part.value for part in ast.walk(node) if isinstance(part, ast.MatchValue))]
            case ast.Call(func=ast.Attribute(attr="get" | "startswith" | "endswith", value=value), args=args):
                sides = [value, *args]
            case ast.Subscript(slice=ast.expr()):
                sides = [node.value, node.slice] if named.search(ast.unparse(node.slice)) else []
            case _:
                continue
        texts = {part.value for side in sides for part in ast.walk(side) if isinstance(part, ast.Constant)}
        words = {text for text in texts if isinstance(text, str)}
        asks = any(named.search(ast.unparse(side)) for side in sides)
        if words & only_methods or (asks and words & set(METHODS.built_in)):
            found.append(node.lineno)
    return found


def test_nothing_outside_of_methods_decides_by_the_name_of_a_method() -> None:
    """What is special about a method is an attribute of its class, so that a new one is one file."""
    rooms = [path for path in MODULES if room(dotted(path)) not in ("methods", "registry")]
    assert not [f"{dotted(path)}:{line}" for path in rooms for line in method_branches(path.read_text(encoding="utf-8"))]
    asked = re.compile(r"method\.name\s*(==|!=|in\b|not\b)")
    assert not [path.name for path in SOURCE.rglob("*.j2") if asked.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(
    "line",
    [
        'if config.method.name == "gold": pass',
        'if config.method.name in ("goldgen", "gold", "teacher"): pass',
        'said = {"teacher": 1, "s3+gold": 2}.get(config.method.name, 3)',
        'if name.split(":")[0] == "s3": pass',
        'asks = system.method not in ("crossfit",)',
        "match config.method.name:\n    case 'zerogen': pass",
    ],
)
def test_a_branch_on_a_name_is_found(line: str) -> None:
    assert method_branches(line)
    assert not method_branches('if trains == "crossfit" or split == "gold": pass')


def is_face(tree: ast.Module) -> bool:
    """Whether this is the package itself, whose names are there for type checkers and else when they are asked for."""
    # Also in an `if`, which hides it from type checkers.
    parts = [part for node in tree.body for part in (node.body if isinstance(node, ast.If) else [node])]
    return any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in parts)


def defined(tree: ast.Module) -> Iterator[str]:
    """Yield the names that exist in a module once it is imported; nothing heavy is loaded to find out."""
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)
            case ast.Assign():
                yield from (name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
            case ast.If(body=body) if is_face(tree):
                yield from defined(ast.Module(body, []))
            case ast.AnnAssign(target=ast.Name(id=name), value=value) if value is not None:
                yield name


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_a_module_says_what_it_is_and_what_it_exports(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree)
    if path.name == "__main__.py":
        return
    values = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    exported: list[str] = ast.literal_eval(values["__all__"])
    assert exported == sorted(set(exported), key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert set(exported) <= set(defined(tree))


@pytest.mark.parametrize(
    "statement", ["import stepsynth", "from stepsynth.cli.main import app; app(['--help'], standalone_mode=False)"]
)
def test_neither_import_nor_help_loads_a_heavy_library(statement: str) -> None:
    found = f"import sys; print('loaded', *sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", f"{statement}\n{found}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded"


def test_help_takes_little_time() -> None:
    """CPU time beside that of a bare import, best of five each, so that a busy or slow machine does not fail it."""

    def taken(*arguments: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    pairs = [(taken("-m", "stepsynth", "--help"), taken("-c", OWN_MODULES)) for _ in range(5)]
    shown, bare = (min(times) for times in zip(*pairs, strict=True))
    assert shown < HELP_CPU * bare


def family_branches(tree: ast.AST) -> Iterator[int]:
    """Yield the lines where something depends on a family's name or class, and not on what the family answers."""
    names = set(FAMILIES.built_in)
    classes = {where.partition(":")[2] for where in FAMILIES.built_in.values()}

    def names_a_family(node: ast.AST) -> bool:
        """Whether a value is a family's name: ``task.family`` or a constant."""
        named = isinstance(node, ast.Attribute) and node.attr == "family" and "task" in ast.unparse(node.value)
        return named or (isinstance(node, ast.Constant) and node.value in names)

    for node in ast.walk(tree):
        parts: list[ast.AST] = []
        match node:
            case ast.Compare(left=left, comparators=others):
                sides = [left, *others]
                parts = [part for side in sides for part in (side.elts if isinstance(side, ast.Tuple | ast.List) else [side])]
            case ast.Subscript(slice=key) | ast.MatchValue(value=key):
                parts = [key]
            case ast.Match(subject=subject):
                parts = [subject]
            case ast.Call(func=ast.Attribute(attr="get" | "startswith"), args=[key, *_]):
                parts = [key]
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, kind]):
                if any(isinstance(name, ast.Name | ast.Attribute) and last_name(name) in classes for name in ast.walk(kind)):
                    yield node.lineno
        if any(map(names_a_family, parts)):
            yield getattr(node, "lineno", 0) or getattr(parts[0], "lineno", 0)


def last_name(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def test_nothing_branches_on_a_family_but_the_families() -> None:
    """A new family is one class: other rooms ask it, and know none by name. A config must know which ones are ours."""
    pages = re.compile(r"family (?:==|!=|in |not )|" + "|".join(f"'{name}'" for name in FAMILIES.built_in))
    found = [path.name for path in SOURCE.rglob("*.j2") if pages.search(path.read_text(encoding="utf-8"))]
    for path in MODULES:
        if room(dotted(path)) not in ("tasks", "config"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found += [f"{dotted(path)}:{line}" for line in family_branches(tree)]
    assert found == []


@pytest.mark.parametrize(
    "code",
    [
        "a = 1 if config.task.family == 'mine' else 2",
        "a = task.family in ('x', 'y')",
        "a = kind == 'extractive_qa'",
        "a = family in ('classification', 'pair')",
        "a = TABLE[task.family]",
        "a = TABLE.get(config.task.family, 1)",
        "match task.family:\n    case 'x': pass",
        "match family:\n    case 'pair': pass",
        "a = isinstance(family, MultiLabel)",
        "a = isinstance(family, (tasks.Pair, str))",
    ],
)
def test_a_branch_on_a_family_is_found(code: str) -> None:
    assert list(family_branches(ast.parse(code)))


def test_no_data_becomes_code() -> None:
    """S4: nothing that could run what a file, a server or a model sends."""
    wrong = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                wrong += [
                    f"{path.name}: {name}"
                    for name in names
                    if name.split(".")[0] in ("pickle", "dill", "joblib", "marshal", "shelve")
                ]
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in (
                    "eval",
                    "exec",
                    "compile",
                    "__import__",
                    "torch.load",
                    "yaml.load",
                    "yaml.unsafe_load",
                    "os.system",
                ):
                    wrong.append(f"{path.name}: {called}")
                trusted = [k for k in node.keywords if k.arg == "trust_remote_code" and ast.unparse(k.value) != "False"]
                shells = [k for k in node.keywords if k.arg == "shell" and ast.unparse(k.value) != "False"]
                wrong += [f"{path.name}: {called}" for _ in trusted + shells]
        text = path.read_text(encoding="utf-8")
        wrong += [f"{path.name}: trust_remote_code" for _ in re.findall(r"trust_remote_code\W{1,4}True", text)]
    assert not wrong


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [path for name in done.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_nothing_names_the_machine_that_it_was_written_on() -> None:
    # Put together here, so that this file does not name one itself.
    private = re.compile(rb"(?<![\w.:])/(?:wor" + rb"k|tmp/" + rb"w|ho" + rb"me/\w+|ro" + rb"ot)(?![\w-])")
    found = []
    for path in tracked():
        for match in private.finditer(path.read_bytes()):
            found.append(f"{path.relative_to(ROOT)}: {match.group().decode()}")
    assert not found


def test_no_score_of_a_trained_student_is_compared_but_through_a_margin() -> None:
    """A bare threshold on what was learned may hold on one processor only, and the sweep would not see it."""
    trains = re.compile(r"build_tiny_model|lend_student|\.fit\(|is_cached\(\"minilm")
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        if path == Path(__file__) or not trains.search(text):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Assert):
                parts = node.test.values if isinstance(node.test, ast.BoolOp) else [node.test]
                found += [f"{path.name}:{node.lineno}" for part in parts if is_share_threshold(part)]
    assert found == [], "use the fixture margin and the marker learns"


def is_share_threshold(node: ast.AST) -> bool:
    """Whether a comparison by order has a number between 0 and 1 on a side."""
    if not isinstance(node, ast.Compare) or not any(isinstance(way, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for way in node.ops):
        return False
    sides = [side.value for side in (node.left, *node.comparators) if isinstance(side, ast.Constant)]
    return any(isinstance(value, float) and 0 < value < 1 for value in sides)
