"""The HTTP application: ``/predict``, ``/health``, and the pages that FastAPI makes."""

from __future__ import annotations

import asyncio
import json
import platform
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib import metadata
from itertools import count
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.exceptions import HTTPException

from stepsynth import __version__
from stepsynth.serving.batching import Batcher, Busy, StudentFailed
from stepsynth.serving.bodies import BoundedBodies
from stepsynth.serving.schemas import Detail, Health, Problems, answer_model, request_model, row_values
from stepsynth.tasks.predicted import predicted_columns
from stepsynth.types import Example

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from stepsynth.serving.limits import Limits
    from stepsynth.serving.students import Served
    from stepsynth.types import Prediction

__all__ = ["create_app"]

_BODY_SECONDS = 30
_SHOWN_PROBLEMS = 20
_CLIENT_GONE = 499
_BAD_BODY = 400
# What pydantic calls a value that is no JSON object.
_NO_OBJECT = frozenset({"model_type", "dict_type", "model_attributes_type"})
_RUNS_ON = {"onnx": ("onnxruntime", "tokenizers"), "openvino": ("openvino", "tokenizers")}
# FastAPI can hand requests, and the errors in them, to OpenTelemetry.
_NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False, "operation_spans": False, "auto_configure": False}


class _Asked:
    """Turns requests into rows for the model and predictions into answers.

    Args:
        served: the student.
        limits: of the server.
        threshold: abstain below it.
    """

    def __init__(self, served: Served, limits: Limits, threshold: float | None) -> None:
        self.served = served
        self.limits = limits
        self.threshold = threshold
        self.batcher = Batcher(lambda rows: served.model.predict(rows), limits)
        self._numbers = count()

    @asynccontextmanager
    async def lifespan(self, _app: FastAPI) -> AsyncIterator[None]:
        """Run the batcher as long as the server."""
        working = asyncio.create_task(self.batcher.work())
        try:
            yield
        finally:
            working.cancel()

    async def predict(self, request: Request, body: Any) -> Response:
        """Predict the rows of a request."""
        try:
            found = await self._answer(request, [self._example(texts) for texts in row_values(body)])
        except Busy as busy:
            said = f"{self.batcher.waiting:,} rows wait already. Try again in {busy.retry_after} seconds."
            return JSONResponse({"detail": said}, 503, {"Retry-After": str(busy.retry_after)})
        except StudentFailed:
            return JSONResponse({"detail": "The student failed on the rows of this request; the server's log says where."}, 500)
        if found is None:
            return Response(status_code=_CLIENT_GONE)
        family = self.served.family
        return _Answer({"predictions": [predicted_columns(family, row, self.threshold) for row in found]})

    def _example(self, texts: Sequence[str]) -> Example:
        family = self.served.family
        row = dict(zip(family.text_columns, texts, strict=True))
        return Example(str(next(self._numbers)), row[family.written], context=row[family.kept] if family.kept else "")

    async def _answer(self, request: Request, rows: list[Example]) -> list[Prediction] | None:
        """Return the predictions; ``None`` if the client went away, which takes its rows out of the queue."""
        answering = asyncio.create_task(self.batcher.answer(rows))
        gone = asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            return answering.result() if answering.done() else None
        finally:
            answering.cancel()
            gone.cancel()

    def health(self) -> dict[str, Any]:
        """Return what is served, and how it is doing."""
        served, task = self.served, self.served.found.config.task
        packages = _RUNS_ON.get(served.found.form, ("torch", "transformers"))
        return {
            "status": "ok",
            "name": task.name,
            "family": task.family,
            "columns": list(served.family.text_columns),
            "labels": dict(task.labels),
            "round": served.found.round,
            "form": served.found.form,
            "threshold": self.threshold,
            "limits": asdict(self.limits),
            "waiting": self.batcher.waiting,
            "requests": self.batcher.requests,
            "rows": self.batcher.rows,
            "batches": self.batcher.batches,
            "versions": {
                "stepsynth": __version__,
                "python": platform.python_version(),
                **{package: metadata.version(package) for package in packages},
            },
        }


def create_app(served: Served, limits: Limits, threshold: float | None = None) -> FastAPI:
    """Return the application.

    Args:
        served: the student.
        limits: of requests.
        threshold: abstain from predictions whose confidence is lower; from 0 to 1.
    """
    asked = _Asked(served, limits, threshold)
    family, task = served.family, served.found.config.task
    app = FastAPI(
        title=task.name,
        description=_described(served),
        version=__version__,
        lifespan=asked.lifespan,
        telemetry=_NO_TELEMETRY,
    )

    async def predict(request: Request, body: Any) -> Response:
        return await asked.predict(request, body)

    async def health() -> Response:
        return JSONResponse(asked.health())

    async def index() -> Response:
        return RedirectResponse("docs")

    # The request's model is made for the task, so no annotation can name it.
    predict.__annotations__["body"] = request_model(family, limits)
    answers: dict[int | str, dict[str, Any]] = {
        200: {"model": answer_model(family, threshold), "description": "One prediction per row, in order."},
        408: {"model": Detail, "description": f"The body took more than {_BODY_SECONDS} seconds."},
        413: {"model": Detail, "description": f"The body has more than {limits.max_body:,} bytes."},
        415: {"model": Detail, "description": "The body is not sent as application/json."},
        422: {"model": Problems, "description": "The body is no JSON, or its rows are not as they should be."},
        500: {"model": Detail, "description": "The student failed on these rows."},
        503: {"model": Detail, "description": f"More than {limits.max_waiting:,} rows would wait; see Retry-After."},
    }
    app.add_api_route("/predict", predict, methods=["POST"], responses=answers, summary="Predict rows")
    app.add_api_route("/health", health, methods=["GET"], responses={200: {"model": Health}}, summary="What is served")
    app.add_api_route("/", index, methods=["GET"], include_in_schema=False)
    known = f"A row has {' and '.join(map(repr, family.text_columns))}; a request has 'rows'."
    app.add_exception_handler(RequestValidationError, _refusal(known, limits))
    app.add_exception_handler(HTTPException, _unreadable)
    app.add_middleware(BoundedBodies, max_body=limits.max_body, seconds=_BODY_SECONDS)
    return app


def _described(served: Served) -> str:
    """Return the text at the top of the OpenAPI page."""
    task = served.found.config.task
    labels = "".join(f"\n- `{label}`: {meaning}" for label, meaning in task.labels.items())
    return f"{task.instruction}\n\nA student that stepsynth trained.{' Labels:' if labels else ''}\n{labels}"


def _refusal(known: str, limits: Limits) -> Any:
    """Return the handler of requests that do not fit: what is wrong and where, but not the texts."""

    async def refuse(_request: Request, error: RequestValidationError) -> Response:
        problems = []
        for problem in error.errors()[:_SHOWN_PROBLEMS]:
            said = problem["msg"]
            if problem["type"] == "extra_forbidden":
                said = f"Unknown key. {known}"
            elif problem["type"] in _NO_OBJECT:
                said = f"This is no object. {known}"
            elif problem["type"] in ("too_short", "too_long") and problem["loc"][-1] == "rows":
                allowed = f"at least one row, at most {limits.max_rows:,}"
                said = f"A request has {allowed}; this one has {problem['ctx']['actual_length']:,}."
            problems.append({"loc": [_short(part) for part in problem["loc"]], "msg": said, "type": problem["type"]})
        return _Answer({"detail": problems}, 422)

    return refuse


async def _unreadable(request: Request, error: Exception) -> Response:
    """Say what is wrong with a body that cannot be parsed at all; FastAPI says only that it cannot."""
    if isinstance(error, HTTPException) and error.status_code == _BAD_BODY and request.method == "POST":
        return JSONResponse(
            {"detail": "The body cannot be read as JSON: it is not UTF-8, is nested too deep, or has a number that is too long."},
            400,
        )
    return await http_exception_handler(request, error)  # type: ignore[arg-type]


def _short(part: str | int) -> str | int:
    return part if isinstance(part, int) else part[:80]


class _Answer(JSONResponse):
    """JSON; in ASCII where a client's key or text holds half a character, which UTF-8 cannot."""

    def render(self, content: Any) -> bytes:
        try:
            return super().render(content)
        except UnicodeEncodeError:
            return json.dumps(content, allow_nan=False).encode()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
