"""Engines as actors of a Ray cluster: what each needs, whether a node has it, starting, asking and ending them.

Ray repeats nothing (``max_restarts=0, max_task_retries=0``): an actor that is lost is reported, and the fleet decides. An actor
waits for a place as long as it takes, so nodes may join at any time.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stepsynth.config.replicas import HERE
from stepsynth.errors import ConfigError, RunError, StepsynthError
from stepsynth.model_cache import resolve
from stepsynth.model_cache.sending import describe, local_folder, send
from stepsynth.registry import TEACHERS
from stepsynth.runtime.counting import counted
from stepsynth.runtime.ray_cluster import address_of, join, leave, node_resources, other_versions, versions_of
from stepsynth.teachers.replica_worker import ENDINGS, read_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from stepsynth.config import TeacherConfig

__all__ = ["Engines", "Heard", "RayEngines", "actor_options", "check_cluster", "places"]

# Another version of one of these may give other answers, or know other requests.
_PACKAGES = {
    "openvino": ("openvino-genai",),
    "transformers": ("torch", "transformers", "tokenizers"),
    "vllm": ("vllm", "torch", "transformers"),
}
_GPU_BACKENDS = ("transformers", "vllm")
_RAYS_NAMES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
_GB = 2**30
_ID = re.compile(r"\b[0-9a-f]{16,}\s")
# So much of an accelerator's own resource does an actor ask for that names its type.
_OF_A_TYPE = 0.001


class Heard(Protocol):
    """Hears of an engine that is being started."""

    def placed(self, engine: int, life: int, host: str) -> None:
        """It has a place and loads its model."""
        ...

    def ready(self, engine: int, life: int) -> None:
        """It can answer."""
        ...

    def lost(self, engine: int, life: int, why: str) -> None:
        """It died."""
        ...

    def refused(self, engine: int, life: int, error: StepsynthError) -> None:
        """It cannot be used; a user can do something about it."""
        ...


class Engines(Protocol):
    """A way of running engines."""

    def start(self, engine: int, life: int, heard: Heard) -> None:
        """Start an engine and return at once."""
        ...

    def ask(self, life: int, request: Mapping[str, Any], seed: int) -> Future[Any]:
        """Send a request to an engine that is ready."""
        ...

    def stop(self, life: int) -> None:
        """End an engine at once; harmless if it has ended."""
        ...

    def stop_all(self) -> None:
        """End all engines."""
        ...

    def close(self) -> None:
        """End all engines and leave the cluster."""
        ...


class RayEngines:
    """Actors with an engine each; see `Engines`.

    Args:
        config: the teacher.
        note: called with a sentence about the cluster.

    Raises:
        ConfigError: Ray is missing, or the model does not exist.
        AssetError: the model cannot be fetched.
        RunError: there is no cluster, or no node of it has what an engine needs.
    """

    def __init__(self, config: TeacherConfig, note: Callable[[str], object]) -> None:
        _check_findable(config)
        self._config = config
        self._ray = join(address_of(config.cluster or ""), note)
        try:
            nodes = node_resources(self._ray)
            self._options = actor_options(config, nodes)
            self._place = _model_place(config, note)
            about = None if self._place is None else describe(config.model, self._place, ENDINGS.get(config.backend, ()))
        except BaseException:
            leave()
            raise
        room = places(self._options, nodes)
        there = f"room for {min(room, config.replicas)} of {counted(config.replicas, 'engine')} at once"
        note(f"Ray: {counted(len(nodes), 'node')}, {there}.")
        values = {**config.model_dump(mode="json"), **HERE}
        self._versions = versions_of(_PACKAGES.get(config.backend, ()))
        self._message = {"teacher": values, "versions": self._versions, "model": about}
        self._class: Any = self._ray.remote(_actor_class())
        self._actors: dict[int, Any] = {}
        self._pieces: list[tuple[str, Any]] | None = None
        self._guard = threading.Lock()
        self._closed = False

    def start(self, engine: int, life: int, heard: Heard) -> None:
        """See `Engines`."""
        # Far more calls than requests, so that none waits for a turn in Ray's own queue.
        options = {**self._options, "max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
        actor = self._class.options(**options, max_concurrency=2 * self._config.most_in_flight + 16).remote()
        self._actors[life] = actor
        threading.Thread(target=self._load, args=(engine, life, actor, heard), daemon=True).start()

    def ask(self, life: int, request: Mapping[str, Any], seed: int) -> Future[Any]:
        """See `Engines`."""
        future: Future[Any] = self._actors[life].ask.remote(dict(request), seed).future()
        return future

    def stop(self, life: int) -> None:
        """See `Engines`."""
        actor = self._actors.pop(life, None)
        if actor is not None:
            with contextlib.suppress(Exception):
                self._ray.kill(actor, no_restart=True)

    def stop_all(self) -> None:
        """See `Engines`."""
        for life in list(self._actors):
            self.stop(life)
        with self._guard:
            # The object store's memory is needed by others now.
            self._pieces = None

    def close(self) -> None:
        """See `Engines`."""
        if not self._closed:
            self._closed = True
            self.stop_all()
            leave()

    def _load(self, engine: int, life: int, actor: Any, heard: Heard) -> None:
        """Follow an actor until its engine is ready; in a thread of its own."""
        try:
            self._follow(engine, life, actor, heard)
        except BaseException as error:  # Ray's own, whatever the disk raises, and what a shutdown raises in its threads
            if not self._closed:
                heard.lost(engine, life, f"was lost ({short(error)})")

    def _follow(self, engine: int, life: int, actor: Any, heard: Heard) -> None:
        ray = self._ray
        said = ray.get(actor.open.remote(self._message))
        if "other" in said:
            heard.refused(engine, life, other_versions("an engine", said["host"], said["other"], self._versions))
            return
        heard.placed(engine, life, str(said["host"]))
        said = ray.get(actor.load.remote(self._files() if said["needs"] else []))
        if "ready" in said:
            heard.ready(engine, life)
        elif "error" in said:
            heard.refused(engine, life, read_error(said))
        else:
            heard.lost(engine, life, f"could not load its model ({said.get('broken')})")

    def _files(self) -> list[tuple[str, Any]]:
        """Return the model's files in the object store, where all actors find them."""
        place, names = self._place, self._message["model"]["files"]  # type: ignore[index]
        assert place is not None  # noqa: S101
        folder = place if place.is_dir() else place.parent
        with self._guard:
            if self._pieces is None:
                self._pieces = send([folder / name for name in names], self._ray.put)
            return self._pieces


def short(error: BaseException) -> str:
    """Return what Ray says of a lost actor, without its ids."""
    said = " ".join(_ID.sub("", str(error).partition("class_name:")[0]).split())
    return f"{type(error).__name__}: {said[:160]}".rstrip(" :.")


def check_cluster(config: TeacherConfig, note: Callable[[str], object]) -> str:
    """Check the model, the cluster, and that a node has what an engine needs; start no engine.

    Returns:
        One sentence about the engines.

    Raises:
        ConfigError: Ray is missing, the model does not exist, or an engine of this kind cannot run there.
        AssetError: the model cannot be fetched.
        RunError: there is no cluster, or no such node.
    """
    _check_findable(config)
    ray = join(address_of(config.cluster or ""), note)
    try:
        nodes = node_resources(ray)
        actor_options(config, nodes)
    finally:
        leave()
    check = getattr(TEACHERS.load(config.backend), "check", None)
    # The embedded engine's own check is about the memory of this machine.
    if callable(check) and config.backend != "openvino":
        TEACHERS.guarded(config.backend, lambda: check(config))
    _model_place(config, note)
    engines, there = counted(config.replicas, "engine"), counted(len(nodes), "node")
    return f"{config.model} in {engines} on Ray ({config.backend}, {there}), no key, no server"


def actor_options(config: TeacherConfig, nodes: list[dict[str, float]]) -> dict[str, Any]:
    """Return what each actor asks Ray for.

    Args:
        config: ``resources`` in Ray's words. By default the cores of this machine (``OMP_NUM_THREADS``, if it is set), at most
            those of a whole node; for an engine that can use one, a GPU if there are any, and then a single core.
        nodes: the resources of each node.

    Raises:
        RunError: no node has that.
    """
    options = dict(config.resources)
    cpu = config.options.get("device") == "cpu" if config.backend == "transformers" else config.backend not in _GPU_BACKENDS
    if "num_gpus" not in options and not cpu and any(node.get("GPU") for node in nodes):
        options["num_gpus"] = 1
    if "num_cpus" not in options:
        threads = os.environ.get("OMP_NUM_THREADS", "")
        own = int(threads) if threads.isdecimal() else os.cpu_count() or 1
        widest = max((int(node.get("CPU", 0)) for node in nodes), default=0)
        options["num_cpus"] = 1 if options.get("num_gpus") else max(1, min(own, widest))
    if not places(options, nodes):
        has = "; ".join(dict.fromkeys(_listed(node) for node in nodes)) or "nothing"
        raise RunError(
            f"no node of the Ray cluster has what an engine needs ({_listed(_asked(options))}); they have: {has}.",
            hint="Change teacher.resources, or add such a node.",
        )
    return options


def places(options: Mapping[str, Any], nodes: list[dict[str, float]]) -> int:
    """Return for how many engines the nodes have room if nothing else runs there."""
    asked = {name: amount for name, amount in _asked(options).items() if amount > 0}
    if not asked:
        return 1_000_000 if nodes else 0
    return sum(min(int(node.get(name, 0) / amount + 1e-6) for name, amount in asked.items()) for node in nodes)


def _asked(options: Mapping[str, Any]) -> dict[str, float]:
    """Return what is asked for, by the names that nodes give it."""
    found = {_RAYS_NAMES[name]: amount for name, amount in options.items() if name in _RAYS_NAMES}
    found.update(options.get("resources", {}))
    if kind := options.get("accelerator_type"):
        found[f"accelerator_type:{kind}"] = _OF_A_TYPE
    return found


def _listed(resources: Mapping[str, float]) -> str:
    shown = []
    for name, amount in sorted(resources.items()):
        if name == "memory":
            shown.append(f"memory {amount / _GB:.1f} GB")
        elif name.startswith("accelerator_type:"):
            shown.append(name)
        elif name != "object_store_memory" and not name.startswith("node:"):
            shown.append(f"{name} {amount:g}")
    return ", ".join(shown) or "no resources"


def _check_findable(config: TeacherConfig) -> None:
    """Refuse an engine whose class other processes do not find."""
    if not TEACHERS.is_installed(config.backend):
        raise ConfigError(
            f"teacher.replicas: actors do not know the class of backend {config.backend!r}, which this program registered.",
            hint="Register it as an entry point of a package that is installed on all nodes.",
        )


def _model_place(config: TeacherConfig, note: Callable[[str], object]) -> Path | None:
    """Return the folder or the file of a model on this machine; ``None`` for a plug-in, which finds its own."""

    def say(line: str) -> None:
        note(line)

    if config.backend == "openvino":
        return Path(resolve(config.model, kind="teacher", report=say))
    if config.backend in ENDINGS:
        from stepsynth.teachers.local_transformers import local_model

        found = local_model(config.model)
        folder = Path(found)
        return folder if folder.is_dir() else local_folder(found, ENDINGS[config.backend], config.options.get("revision"))
    return None


def _actor_class() -> type:
    """Return the actor: a class within a function, so that Ray sends its code, also to machines without this module."""

    class Engine:
        async def open(self, message: dict[str, Any]) -> dict[str, Any]:
            import asyncio
            import socket

            try:
                from stepsynth.teachers.replica_worker import Replica
            except ImportError as error:
                return {"other": str(error), "host": socket.gethostname()}
            self._replica = Replica(message)
            return await asyncio.to_thread(self._replica.open)

        async def load(self, pieces: list[tuple[str, Any]]) -> dict[str, Any]:
            import asyncio

            import ray

            return await asyncio.to_thread(self._replica.load, pieces, ray.get)

        async def ask(self, request: dict[str, Any], seed: int) -> dict[str, Any]:
            import asyncio

            return await asyncio.wrap_future(self._replica.ask(request, seed))

    return Engine
