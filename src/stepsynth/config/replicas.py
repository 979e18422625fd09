"""The keys of ``teacher`` about engines on Ray: how many, where, and what each needs."""

from __future__ import annotations

from typing import Any

from stepsynth.config.wire import SERVERS
from stepsynth.errors import did_you_mean

__all__ = ["HERE", "IN_FLIGHT", "RESOURCES", "check_cluster", "check_replicas", "check_resources"]

# The values that stand for one engine in this process.
HERE: dict[str, Any] = {"replicas": 1, "cluster": None, "resources": {}}
# Ray's own names for what an actor needs.
RESOURCES = ("num_cpus", "num_gpus", "memory", "resources", "accelerator_type")
# Requests at one engine, in multiples of its batch: an engine may hold two batches, and the next one is then there already.
IN_FLIGHT = 3


def check_cluster(cluster: str | None) -> None:
    """Refuse a place that is not a Ray cluster.

    Raises:
        ValueError: it is something else.
    """
    if cluster is not None and cluster != "ray" and not (cluster.startswith("ray:") and len(cluster) > len("ray:")):
        raise ValueError(f"engines cannot run on {cluster!r}; write ray, or ray:HOST:PORT with the address of the cluster's head")


def check_resources(resources: dict[str, Any]) -> None:
    """Refuse what is not a need of a Ray actor.

    Raises:
        ValueError: a key or a value is wrong.
    """
    for name, value in resources.items():
        if name not in RESOURCES:
            raise ValueError(f"resources.{name} is not one of Ray's. {did_you_mean(name, RESOURCES)}")
        if name == "accelerator_type":
            if not isinstance(value, str) or not value:
                raise ValueError(f"resources.accelerator_type is {value!r}; write its name in Ray, for instance H100")
        elif name == "resources":
            if not isinstance(value, dict) or not all(_is_amount(amount) for amount in value.values()):
                raise ValueError(f"resources.resources is {value!r}; write names with numbers, for instance {{big_node: 1}}")
        elif not _is_amount(value):
            raise ValueError(f"resources.{name} is {value!r}; write a number, 0 or more")


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e18


def check_replicas(backend: str, replicas: int, cluster: str | None, resources: dict[str, Any]) -> None:
    """Refuse engines on Ray for a teacher that is no engine, and resources for an engine in this process.

    Raises:
        ValueError: the keys do not fit together.
    """
    what = f"replicas {replicas}" if replicas > 1 else f"cluster {cluster!r}"
    if replicas > 1 or cluster is not None:
        if backend in SERVERS:
            raise ValueError(
                f"{what} is for engines in this process, and backend {backend!r} asks a server; list several servers in base_url"
            )
        if backend == "fake":
            raise ValueError(f"{what} is for engines; backend 'fake' is none")
    elif resources:
        raise ValueError("resources are for engines on Ray; set replicas above 1, or cluster: ray")
