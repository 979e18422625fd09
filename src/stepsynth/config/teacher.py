"""The section ``teacher`` of a config: the model, its address, its sampling, and limits on requests."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_serializer, model_validator

from stepsynth.config.endpoints import check_address, one_or_more, shown_addresses
from stepsynth.config.replicas import IN_FLIGHT, check_cluster, check_replicas, check_resources
from stepsynth.config.sections import Section
from stepsynth.config.wire import KEY_HEADERS, SECRET, SECRET_NAME, SERVERS, check_fields, check_headers
from stepsynth.errors import did_you_mean
from stepsynth.registry import TEACHERS
from stepsynth.types import Sampling

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ModelWrapValidatorHandler, SerializerFunctionWrapHandler

__all__ = [
    "ANTHROPIC_URL",
    "AUTO",
    "BACKENDS",
    "FAKE",
    "FREE_TEACHER_KEYS",
    "UNNAMED",
    "PriceConfig",
    "SamplingConfig",
    "TeacherConfig",
]

BACKENDS = tuple(TEACHERS.built_in)
# Whoever reads a table must not take invented words for a model's.
FAKE = "fake teacher, which invents words"
# Stands for a model that is chosen when a run begins.
AUTO = "auto"
# What other backends are asked for where no model is named: the default of version 0.1.0, part of the keys of its answers.
UNNAMED = "smollm2-135m"
ANTHROPIC_URL = "https://api.anthropic.com"
# Backends that take a list of servers.
_SEVERAL = frozenset({"openai", "anthropic"})
# Keys that may change when a run is resumed, because they do not affect an answer.
FREE_TEACHER_KEYS = (
    "concurrency",
    "timeout_s",
    "connect_timeout_s",
    "attempts",
    "requests_per_minute",
    "longest_pause_s",
    "api_key_env",
    "price",
    "mode",
    "rows_per_request",
    "reasoning_tokens",
    "headers",
    "logprobs",
    "replicas",
    "cluster",
    "resources",
)


class SamplingConfig(Section):
    """Sampling parameters; see `stepsynth.types.Sampling`."""

    temperature: float = Field(default=0.7, ge=0.0, le=2.0)
    top_p: float = Field(default=0.9, gt=0.0, le=1.0)
    min_p: float = Field(default=0.0, ge=0.0, lt=1.0)
    repetition_penalty: float = Field(default=1.0, gt=0.0, le=2.0)
    max_tokens: int = Field(default=64, ge=1, le=32_768)

    def frozen(self) -> Sampling:
        """Convert to a plain frozen `Sampling`."""
        return Sampling(**self.model_dump())


class PriceConfig(Section):
    """A teacher's price, in dollars per million tokens.

    Attributes:
        input: price of prompt tokens.
        output: price of answer tokens.
        batch: the share of both prices that the provider's batch API charges.
    """

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    batch: float = Field(default=0.5, gt=0, le=1)


class TeacherConfig(Section):
    """The large model.

    Attributes:
        backend: ``openvino`` (embedded, in process), ``openai`` (any server with
            ``/chat/completions``), ``anthropic``, ``transformers`` (local, CPU or GPU), ``vllm``
            (in process), ``litellm``, ``fake`` (deterministic, for tests), or the name that a
            plug-in registered.
        model: embedded model name, folder or GGUF file (openvino), folder or hub id
            (transformers, vllm), or the server's model id. ``auto`` (openvino) is the best embedded
            model that the machine has room for; a run keeps the one that it began with.
        base_url: the server's root, for instance ``http://127.0.0.1:8000/v1``; with ``anthropic``
            Anthropic's own by default. A config may give a list of servers of one model (openai, anthropic):
            this is the first, which stands for all of them, and `base_urls` has all.
        api_key_env: name of the environment variable with the key, never the key itself.
        api_version: Azure only: the ``api-version`` of its URLs.
        sampling: see `SamplingConfig`.
        rows_per_request: answers per request if prompts are equal and the server supports it
            (``n`` of chat completions); each is one row of the plan.
        structured: ``json`` asks for a JSON object with the text or texts in it, by schema if the
            backend can enforce one; ``text`` asks for the text alone.
        mode: ``live`` sends requests one by one, ``batch`` uses the provider's batch API:
            cheaper, within a day (openai and anthropic).
        concurrency: most requests in flight; reduced when the server slows down or refuses.
        timeout_s: seconds for one attempt.
        connect_timeout_s: seconds for a connection.
        attempts: attempts per request before it counts as failed.
        requests_per_minute: most requests per minute, evenly spaced; no limit by default.
        longest_pause_s: longest pause that a server may ask for; a longer one ends the run, and
            the same command resumes it later.
        price: dollars per million tokens, instead of those in the price list.
        options: further settings of local engines and plug-ins, passed on unchanged; for openai,
            anthropic and litellm, further fields of every request.
        headers: openai, anthropic, litellm: additional headers of every request; a value is
            a text, in which ``${NAME}`` is an environment variable, or ``{env: NAME}``.
        reasoning_tokens: room for thoughts that count as output: added to every request's ``max_tokens``.
        logprobs: openai: ask for log-probabilities where the teacher reads rows a second time (``method.second_reading``);
            they say how sure it is of its answer. A server that refuses them is asked without.
        replicas: openvino, transformers, vllm, plug-ins that are engines: how many engines answer. More than one run as actors
            of a Ray cluster; ``concurrency`` is then the most sequences in one batch of each.
        cluster: ``ray`` or ``ray:HOST:PORT``: a single engine on a Ray cluster, too, and which cluster.
        resources: what each engine on Ray needs, in Ray's words: ``num_cpus``, ``num_gpus``, ``memory``, ``resources``,
            ``accelerator_type``.
    """

    backend: str = Field(default="openvino", min_length=1, max_length=80)
    model: str = AUTO
    base_url: str | None = None
    api_key_env: str | None = None
    api_version: str | None = None
    sampling: SamplingConfig = SamplingConfig()
    rows_per_request: int = Field(default=1, ge=1, le=128)
    structured: Literal["text", "json"] = "text"
    mode: Literal["live", "batch"] = "live"
    concurrency: int = Field(default=64, ge=1, le=4096)
    timeout_s: float = Field(default=120.0, gt=0)
    connect_timeout_s: float = Field(default=10.0, gt=0)
    attempts: int = Field(default=5, ge=1, le=20)
    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    longest_pause_s: float = Field(default=3600.0, gt=0, le=604_800)
    price: PriceConfig | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    headers: dict[str, str | dict[Literal["env"], str]] = Field(default_factory=dict)
    reasoning_tokens: int = Field(default=0, ge=0, le=1_000_000)
    logprobs: bool = False
    replicas: int = Field(default=1, ge=1, le=1024, strict=True)
    cluster: str | None = None
    resources: dict[str, Any] = Field(default_factory=dict)

    # Servers of the same model besides `base_url`.
    _others: tuple[str, ...] = PrivateAttr(default=())
    # The address in the identity, where this is the config of one server of several.
    _named: str | None = PrivateAttr(default=None)

    @field_validator("backend")
    @classmethod
    def _known_backend(cls, value: str, info: ValidationInfo) -> str:
        # A run on disk can be read without the plug-in that wrote its rows.
        if value in TEACHERS or (info.context and info.context.get("stored")):
            return value
        guess = did_you_mean(value, TEACHERS.names())
        here = "" if guess.endswith("?") else " here; a script's own is known in that script only"
        raise ValueError(f"backend {value!r} is not known{here}. {guess}".rstrip("."))

    @field_validator("api_key_env")
    @classmethod
    def _a_name(cls, value: str | None) -> str | None:
        if value is None or (re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", value) and not SECRET.match(value)):
            return value
        raise ValueError(
            "this looks like a key, not the name of an environment variable; "
            "export the key as OPENAI_API_KEY and write that name here"
        )

    @field_validator("options")
    @classmethod
    def _no_secrets(cls, value: dict[str, Any]) -> dict[str, Any]:
        for path, text in _strings(value):
            # The pattern takes a path for base64.
            keylike = SECRET.search(text) and not text.startswith(("/", "./", "../", "~"))
            if keylike or (text and SECRET_NAME.search(path)):
                raise ValueError(f"options.{path} looks like a key; export it and name its variable in api_key_env")
        if "trust_remote_code" in value:
            raise ValueError("options.trust_remote_code is not allowed: code that comes with a model is never run")
        return value

    @field_validator("headers")
    @classmethod
    def _sound_headers(cls, value: dict[str, str | dict[Literal["env"], str]]) -> dict[str, str | dict[Literal["env"], str]]:
        check_headers(value)
        return value

    @field_validator("cluster")
    @classmethod
    def _on_ray(cls, value: str | None) -> str | None:
        check_cluster(value)
        return value

    @field_validator("resources")
    @classmethod
    def _rays_own(cls, value: dict[str, Any]) -> dict[str, Any]:
        check_resources(value)
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _one_or_more(cls, values: Any, handler: ModelWrapValidatorHandler[TeacherConfig]) -> TeacherConfig:
        """Take a list of addresses apart: the first is `base_url`, as if it stood alone."""
        given = values.get("base_url") if isinstance(values, dict) else None
        if not isinstance(given, list | tuple):
            return handler(values)
        first, *others = one_or_more(str(values.get("backend")), given)
        config = handler({**values, "base_url": first})
        if config.backend not in _SEVERAL:
            raise ValueError(f"a list in base_url needs backend 'openai' or 'anthropic', not {config.backend!r}")
        if others and config.mode == "batch":
            raise ValueError("mode 'batch' takes one address in base_url: a batch belongs to one provider")
        config._others = tuple(others)
        return config

    @model_serializer(mode="wrap")
    def _as_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        if self._others and "base_url" in values:
            values["base_url"] = list(self.base_urls)
        return values

    @model_validator(mode="before")
    @classmethod
    def _own_address(cls, values: Any) -> Any:
        """Fill in a backend's only address, so that the request key does not depend on whether it was written."""
        if isinstance(values, dict) and values.get("backend") == "anthropic" and not values.get("base_url"):
            return {**values, "base_url": ANTHROPIC_URL}
        return values

    @model_validator(mode="before")
    @classmethod
    def _unnamed(cls, values: Any) -> Any:
        """Keep the original default name for other backends: ``auto`` chooses only among embedded teachers."""
        if not isinstance(values, dict) or values.get("backend", "openvino") == "openvino":
            return values
        # The fake backend accepts a starter's config unchanged.
        unnamed = "model" not in values or (values["backend"] == "fake" and values["model"] == AUTO)
        if not unnamed:
            return values
        # Pages and cards must not give a plug-in another model's name and licence.
        known = values["backend"] in BACKENDS or not isinstance(values["backend"], str)
        return {**values, "model": UNNAMED if known else values["backend"]}

    @model_validator(mode="after")
    def _a_model(self) -> TeacherConfig:
        if self.model == AUTO and self.backend != "openvino":
            raise ValueError(f"model 'auto' chooses among the embedded models; name the model for backend {self.backend!r}")
        return self

    @model_validator(mode="after")
    def _features(self) -> TeacherConfig:
        """Refuse what a built-in backend cannot do; plug-ins check for themselves."""
        own = self.backend in BACKENDS
        if self.api_version is not None and self.backend not in {"openai", "litellm"} and own:
            raise ValueError(f"api_version belongs to Azure (backend 'openai'), not to backend {self.backend!r}")
        if self.mode == "batch" and self.backend not in {"openai", "anthropic"}:
            raise ValueError(f"mode 'batch' needs backend 'openai' or 'anthropic'; {self.backend!r} has no batch API")
        if self.rows_per_request > 1 and self.backend not in {"openai", "litellm"} and own:
            raise ValueError(
                f"rows_per_request {self.rows_per_request} needs backend 'openai' or 'litellm', not {self.backend!r}"
            )
        if self.rows_per_request > 1 and self.mode == "batch":
            raise ValueError(f"rows_per_request {self.rows_per_request} cannot be combined with mode 'batch'")
        if self.logprobs and self.backend != "openai" and own:
            raise ValueError(f"logprobs needs backend 'openai', not {self.backend!r}")
        if self.options and self.backend in {"fake", "openvino"}:
            raise ValueError(f"options are for servers, transformers, vllm and plug-ins; backend {self.backend!r} takes none")
        if self.backend in SERVERS:
            check_fields(self.options)
        if self.headers and own and self.backend not in SERVERS:
            raise ValueError(f"headers are for servers; backend {self.backend!r} takes none")
        if self.api_key_env and (twice := [name for name in self.headers if name.lower() in KEY_HEADERS]):
            raise ValueError(f"headers.{twice[0]} carries a key, and so does api_key_env; use only one of them")
        return self

    @model_validator(mode="after")
    def _engines(self) -> TeacherConfig:
        check_replicas(self.backend, self.replicas, self.cluster, self.resources)
        return self

    @model_validator(mode="after")
    def _server(self) -> TeacherConfig:
        if self.backend == "openai" and not self.base_url:
            raise ValueError("backend 'openai' needs a base_url, for instance 'https://api.openai.com/v1'")
        if self.base_url:
            check_address(self.base_url)
        return self

    @property
    def on_ray(self) -> bool:
        """Whether its engines are actors of a Ray cluster."""
        return self.replicas > 1 or self.cluster is not None

    @property
    def most_in_flight(self) -> int:
        """The most requests in flight; engines on Ray have their next batch waiting."""
        return self.concurrency * self.replicas * IN_FLIGHT if self.on_ray else self.concurrency

    @property
    def base_urls(self) -> tuple[str, ...]:
        """The addresses of all its servers, the first one first; empty without an address."""
        return (self.base_url, *self._others) if self.base_url else ()

    @property
    def address(self) -> str:
        """What pages and messages show of its addresses: ``http://a/v1 and 2 more``; empty without one."""
        return shown_addresses(self.base_url, len(self.base_urls)) if self.base_url else ""

    def at(self, address: str, *, alone: bool = False) -> TeacherConfig:
        """Return the config of one of its servers.

        Args:
            address: one of `base_urls`.
            alone: with the identity that a config with this address alone has. By default it keeps the identity, and with it
                the keys and seeds of requests, of all servers together.
        """
        config = self.model_copy(update={"base_url": address})
        config._others = ()
        config._named = None if alone else self._named or self.base_url
        return config

    @property
    def called(self) -> str:
        """What pages and lists call it: the model's name; the fake teacher has none."""
        return FAKE if self.backend == "fake" else self.model

    def identity(self) -> dict[str, object]:
        """Return everything besides prompt and sampling that can change an answer."""
        # One spelling per server: a trailing slash must not make every answer cost again.
        # Of several servers of one model the first: its answers must not depend on which one gave them.
        named = self._named or self.base_url
        address = named.rstrip("/") if named else None
        found: dict[str, object] = {"backend": self.backend, "model": self.model, "base_url": address}
        if self.backend == "openvino":
            found["precision"] = "f32"
        # Only settings in use, so that keys made before they existed stay valid.
        for name in ("api_version", "options"):
            if getattr(self, name):
                found[name] = getattr(self, name)
        if self.structured != "text":
            found["structured"] = self.structured
        return found


def _strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string of a nested value with the keys that lead to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _strings(member, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            yield from _strings(member, f"{path}[{index}]")
