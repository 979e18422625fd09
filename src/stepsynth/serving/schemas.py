"""The models of requests and answers, made for the task: they check what comes in and are the OpenAPI page's examples.

A request is ``{"rows": [...]}``; a row has the columns of a file for ``stepsynth predict``, and its prediction the columns that
``predict`` adds. A user's own family may add others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model
from pydantic_core import PydanticCustomError

from stepsynth.tasks.predicted import ABSTAINED, predicted_columns
from stepsynth.types import Prediction

if TYPE_CHECKING:
    from stepsynth.serving.limits import Limits
    from stepsynth.tasks import TaskFamily

__all__ = ["Detail", "Health", "Problem", "Problems", "answer_model", "request_model", "row_values"]

_STRICT = ConfigDict(extra="forbid")


class Detail(BaseModel):
    """Why a request was refused."""

    detail: str


class Problem(BaseModel):
    """One thing that is wrong with a request."""

    loc: list[str | int] = Field(description="Where, for instance body, rows, 0, text.")
    msg: str
    type: str


class Problems(BaseModel):
    """What is wrong with a request; at most 20 problems."""

    detail: list[Problem]


def _filled(text: str) -> str:
    # As for `predict`: a label for nothing would be a guess that looks like an answer.
    if not text.strip():
        raise PydanticCustomError("empty", "The text is empty.")
    return text


def request_model(family: TaskFamily, limits: Limits) -> type[BaseModel]:
    """Return the model of a request: the rows, in the columns of the family."""
    told = {family.kept: family.page_names.get("context"), family.written: family.page_names.get("text")}
    fields: dict[str, Any] = {}
    for place, column in enumerate(family.text_columns):
        about = Field(alias=column, min_length=1, description=f"The {told.get(column) or column}.")
        # The columns of a user's own family may be no names of Python's.
        fields[f"column_{place}"] = (Annotated[str, AfterValidator(_filled), about], ...)
    row = create_model("Row", __config__=_STRICT, __doc__="The texts of one row.", **fields)
    rows = Field(min_length=1, max_length=limits.max_rows, description="The rows to predict, in order.")
    example: Any = {"rows": [{column: f"... ({told.get(column) or column})" for column in family.text_columns}]}
    config = ConfigDict(extra="forbid", json_schema_extra={"example": example})
    model: type[BaseModel] = create_model(
        "Request",
        __config__=config,
        __doc__="Rows to predict.",
        rows=(Annotated[list[row], rows], ...),  # type: ignore[valid-type]
    )
    return model


def row_values(body: Any) -> list[tuple[str, ...]]:
    """Return the texts of each row of a request, in the order of the family's columns."""
    return [tuple(getattr(row, name) for name in type(row).model_fields) for row in body.rows]


def answer_model(family: TaskFamily, threshold: float | None) -> type[BaseModel]:
    """Return the model of an answer, for the OpenAPI page: one prediction per row."""
    fields: dict[str, Any] = {}
    if family.spans:
        fields["answer"] = (str, Field(description="The span of the context that answers the question."))
        fields["answer_start"] = (int, Field(description="Where it begins in the context, in characters."))
        fields["probability"] = (float, Field(description="The probability of the answer."))
        shown = Prediction("0", "...", {"...": 0.9}, 0)
    else:
        name, kind = ("labels", list[str]) if family.several_labels else ("label", str)
        fields[name] = (kind, Field(description="The most probable label." if family.one_label else "Those of at least 0.5."))
        fields["probabilities"] = (dict[str, float], Field(description="Label to probability."))
        rest = round(0.1 / max(1, len(family.labels) - 1), 6)
        likely = {label: 0.9 if place == 0 else rest for place, label in enumerate(family.labels)}
        shown = Prediction("0", family.labels[0], likely)
    if threshold is not None:
        probable = ("probabilities", "probability")
        fields = {key: (kind if key in probable else kind | None, about) for key, (kind, about) in fields.items()}
        said = f"Whether the confidence is below {threshold:g}; the answer is then null."
        fields[ABSTAINED] = (bool, Field(description=said))
    one = create_model("Prediction", __config__=ConfigDict(extra="allow"), __doc__="The prediction of a row.", **fields)
    example: Any = {"predictions": [predicted_columns(family, shown, threshold)]}
    model: type[BaseModel] = create_model(
        "Answer",
        __config__=ConfigDict(json_schema_extra={"example": example}),
        __doc__="Predictions in the order of the rows.",
        predictions=(list[one], ...),  # type: ignore[valid-type]
    )
    return model


class Health(BaseModel):
    """What is served, and how it is doing."""

    status: str = Field(description="ok while the server answers.")
    name: str = Field(description="The task's name.")
    family: str = Field(description="The task's family, for instance classification.")
    columns: list[str] = Field(description="The columns of a row.")
    labels: dict[str, str] = Field(description="Label to meaning; empty for questions.")
    round: int | None = Field(description="The round of the run that trained the student; null for an exported one.")
    form: str = Field(description="safetensors, onnx or openvino.")
    threshold: float | None = Field(description="The student abstains below this confidence.")
    limits: dict[str, float] = Field(description="The limits of requests.")
    waiting: int = Field(description="Rows that wait for the model now.")
    requests: int = Field(description="Requests answered so far.")
    rows: int = Field(description="Rows answered so far.")
    batches: int = Field(description="Calls of the model so far.")
    versions: dict[str, str] = Field(description="Versions of stepsynth and of what runs the student.")
