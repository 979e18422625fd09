"""Find out what a teacher can do with at most four short questions; the next run uses the findings.

    check = TeacherCheck(config, budget)     # nothing is sent yet: check.worst is what it may cost
    check.run()
    check.findings["seed"], check.problem    # a problem would keep a run from working

The first question is asked as in a run, and refusals are learned as in a run. Three more are sent at
once: the same one again (does the seed work?), one for two answers, and one with a system turn that
asks for JSON and log-probabilities. An engine gets two questions.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from stepsynth.config.teacher import BACKENDS
from stepsynth.config.wire import SERVERS
from stepsynth.errors import BudgetError, PermanentError, RetryModifiedError, StepsynthError, TeacherError, TransientError
from stepsynth.teachers import MOST_FORMS, EngineTeacher, StartedTeacher, create_teacher
from stepsynth.teachers.findings import (
    Finding,
    finish_of,
    is_prose,
    limits_of,
    listed,
    rate_headers,
    thoughts_of,
    usage_of,
    wait_of,
)
from stepsynth.teachers.learned import LearningTeacher, remember
from stepsynth.teachers.prices import price_of
from stepsynth.teachers.purse import Bill, Purse
from stepsynth.teachers.reading import answer_text, is_cut_off_in_thought
from stepsynth.teachers.replicas import one_by_one
from stepsynth.types import Message, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from stepsynth.config import BudgetConfig, TeacherConfig
    from stepsynth.teachers import AsyncTeacher
    from stepsynth.teachers.replies import Reply
    from stepsynth.types import Response

__all__ = ["CapableTeacher", "TeacherCheck"]

_PROMPT = "Write one sentence of about ten words about something that you saw on a market."
_SYSTEM = "You write plain English."
# Words in refusals of several answers, or of log-probabilities.
_MANY = re.compile(r"\bn\b|\bchoices?\b", re.IGNORECASE)
_LOGPROBS = re.compile("log_?prob", re.IGNORECASE)
# How often an overloaded server is asked; a longer wait than this is reported, not waited for.
_TRIES = 3
_LONGEST_WAIT_S = 20.0
_SAMPLED = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}


@runtime_checkable
class CapableTeacher(Protocol):
    """A teacher that knows which capabilities it lacks."""

    async def capabilities(self) -> Mapping[str, str]:
        """Return why a setting (``seed``, ``n``, ``logprobs``, ``system turns``, ``JSON``) is missing; sends nothing."""
        ...


class TeacherCheck:
    """One check.

    Args:
        config: the teacher's config; with ``mode: batch`` it is asked live all the same.
        budget: hard caps.

    Attributes:
        config: the config in use.
        worst: the most that the check may cost, without refused requests, which cost nothing.
        findings: by setting.
        headers: the rate-limit headers.
        problem: the error that would keep a run from working.
        cut_off: tokens of an answer that was cut off before any text.
        refused: number of requests refused while learning what the server accepts.
        learned: the findings that the next run starts with.
        kept: the file that holds them.

    Raises:
        ConfigError: dollars are capped and the price is unknown.
    """

    def __init__(self, config: TeacherConfig, budget: BudgetConfig) -> None:
        self.config = config.model_copy(update={"mode": "live"})
        self.purse = Purse(self.config, budget, price_of(self.config))
        self.engine = config.backend in {"openvino", "transformers", "vllm"}
        self.findings: dict[str, Finding] = {}
        self.headers: dict[str, str] = {}
        self.problem: StepsynthError | None = None
        self.cut_off = self.refused = 0
        self.learned: Mapping[str, object] = {}
        self.kept: Path | None = None
        self._replies: list[tuple[str, str, Reply]] = []
        sampling = config.sampling.frozen()
        limit = sampling.max_tokens + config.reasoning_tokens
        self._question = Request((Message("user", _PROMPT),), replace(sampling, max_tokens=limit), 0, "check", 0, "")
        sends = [self._alone] * 2 if self.engine else [self._alone, self._alone, self._instructed]
        sends += [self._twice] if config.backend in {"openai", "litellm"} or config.backend not in BACKENDS else []
        costs = [self.purse.worst(requests) for requests in sends]
        usd = None if self.purse.price is None else sum(cost.usd or 0.0 for cost in costs)
        self.worst = Bill(len(costs), sum(cost.tokens for cost in costs), usd)

    @property
    def _alone(self) -> list[Request]:
        return [self._question]

    @property
    def _twice(self) -> list[Request]:
        return [replace(self._question, replicate=replicate) for replicate in (1, 2)]

    @property
    def _instructed(self) -> list[Request]:
        messages = (Message("system", _SYSTEM), *self._question.messages)
        return [replace(self._question, messages=messages, replicate=3)]

    def run(self) -> None:
        """Run the check; ``problem`` is then the error that would keep a run from working."""
        try:
            several = {"rows_per_request": max(2, self.config.rows_per_request)} if self.config.backend in SERVERS else {}
            teacher = cast("AsyncTeacher | EngineTeacher", create_teacher(self._changed(**several), fresh=True))
            if isinstance(teacher, EngineTeacher | StartedTeacher):
                with one_by_one(teacher, self.config) as ask:
                    self._ask_engine(ask)
            else:
                asyncio.run(self._ask_server(teacher))
        except StepsynthError as error:
            self.problem = error

    def _changed(self, **changes: Any) -> TeacherConfig:
        return self.config.model_copy(update=changes)

    # engines ---------------------------------------------------------------------------------

    def _ask_engine(self, ask: Callable[[Request], Response]) -> None:
        answers: list[Response] = []
        for _ in range(2):
            cost, started = self.purse.take(self._alone), time.monotonic()
            answers, seconds = [*answers, ask(self._question)], time.monotonic() - started
            self.purse.settle(cost, answers[-1:])
        self.findings["server"] = Finding("none", "engines on Ray" if self.config.on_ray else "an engine in this process")
        self._tell_seed(answers)
        self._tell_sampling({})
        self._tell_answer(answers[0])
        written = answers[-1].usage.completion_tokens
        pace = f"{written / seconds:,.0f} tokens per second, one answer alone" if written and seconds else "not counted"
        self.findings["speed"] = Finding("seen", pace)
        self.findings["parallel"] = Finding("seen", f"batches of up to {self.config.concurrency} (teacher.concurrency)")

    # teachers behind a network -------------------------------------------------------------

    async def _ask_server(self, teacher: AsyncTeacher) -> None:
        http = getattr(teacher, "http", None)
        if http is not None:
            http.watch = lambda method, path, reply: self._replies.append((method, path, reply))
        try:
            await self._look_up(teacher)
            known = dict(await teacher.capabilities()) if isinstance(teacher, CapableTeacher) else {}
            first, seconds = await self._first(teacher)
            self.findings["server"] = Finding("seen", f"answered in {seconds:.2f} s")
            self._tell_list()
            await self._more(teacher, first, seconds, known)
            self.learned = teacher.learned() if isinstance(teacher, LearningTeacher) else {}
            self._tell_sampling(self.learned)
            self._tell_answer(first)
            self.kept = remember(self.config, teacher, anew=True)
        finally:
            self._tell_list()
            self._tell_rate()
            await teacher.close()

    async def _look_up(self, teacher: AsyncTeacher) -> None:
        """Ask for the list of models; only an unreachable server, a wrong URL or a refusing proxy ends the check here."""
        probe = getattr(teacher, "probe", None)
        if probe is None:
            return
        try:
            await probe()
        except TransientError as error:
            if error.kind in {"connection", "timeout"}:
                raise

    async def _first(self, teacher: AsyncTeacher) -> tuple[Response, float]:
        for attempt in range(1, _TRIES + 1):
            try:
                started = time.monotonic()
                (answer,) = await self._asked(teacher, self._alone)
            except TransientError as error:
                wait = float(attempt) if error.retry_after is None else error.retry_after
                if attempt == _TRIES or error.maybe_billed or error.kind == "connection" or wait > _LONGEST_WAIT_S:
                    raise
                await asyncio.sleep(wait)
            else:
                if is_cut_off_in_thought(self.config, answer):
                    self.cut_off = answer.usage.completion_tokens or self._question.sampling.max_tokens
                return answer, time.monotonic() - started
        raise AssertionError("the last try returns or raises")

    async def _asked(self, teacher: AsyncTeacher, requests: Sequence[Request]) -> list[Response]:
        """Return answers within the caps, asking again if the teacher has learned another form.

        Raises:
            RetryModifiedError: several answers at once were refused.
            TeacherError: as for `AsyncTeacher.generate`.
            BudgetError: a cap would be exceeded.
        """
        for _ in range(MOST_FORMS + 1):
            cost = self.purse.take(requests)
            try:
                many: Any = teacher
                answers = await many.generate_many(requests) if len(requests) > 1 else [await teacher.generate(requests[0])]
            except TeacherError as error:
                lost = isinstance(error, TransientError) and error.maybe_billed
                if not lost and error.kind != "damaged":
                    self.purse.release(cost)
                self.refused += isinstance(error, RetryModifiedError)
                if isinstance(error, RetryModifiedError) and len(requests) == 1:
                    continue
                raise
            self.purse.settle(cost, answers)
            return list(answers)
        raise PermanentError(f"{self.config.model!r} refused {MOST_FORMS + 1} forms of one request.", kind="refused")

    # three questions at once -----------------------------------------------------------------

    async def _more(self, teacher: AsyncTeacher, first: Response, seconds: float, known: Mapping[str, str]) -> None:
        questions: list[tuple[tuple[str, ...], Awaitable[dict[str, Finding]]]] = [
            (("seed",), self._again(teacher, first, known)),
            (("system turns", "JSON", "logprobs"), self._structured(teacher, known)),
        ]
        if hasattr(teacher, "generate_many") and "n" not in known:
            questions.insert(1, (("n",), self._several(teacher)))
        alone = self.config.concurrency == 1 or self.config.requests_per_minute is not None
        started = time.monotonic()
        if alone:
            found = [await self._safely(*question) for question in questions]
        else:
            found = list(await asyncio.gather(*(self._safely(*question) for question in questions)))
        took = time.monotonic() - started
        for findings in found:
            self.findings |= findings
        self.findings |= {name: Finding("none", why) for name, why in known.items()}
        if not hasattr(teacher, "generate_many") and "n" not in known:
            self.findings["n"] = Finding("not tried", "this backend has no such request")
        limited = any(reply.status == 429 for _, _, reply in self._replies[-2 * len(questions) :])
        said = f"{len(questions)} at once took {took:.2f} s, one alone {seconds:.2f} s"
        if alone:
            reason = "concurrency is 1" if self.config.concurrency == 1 else "requests_per_minute is set"
            self.findings["parallel"] = Finding("not tried", f"teacher.{reason}")
        else:
            self.findings["parallel"] = Finding("refused" if limited else "taken", said + (" (HTTP 429)" if limited else ""))

    async def _safely(self, names: tuple[str, ...], question: Awaitable[dict[str, Finding]]) -> dict[str, Finding]:
        """Ask one of the questions; its failure does not stop the others."""
        try:
            return await question
        except (TeacherError, BudgetError) as error:
            return {name: Finding("not tried", error.message) for name in names}

    async def _again(self, teacher: AsyncTeacher, first: Response, known: Mapping[str, str]) -> dict[str, Finding]:
        answers = [first, *await self._asked(teacher, self._alone)]
        if "seed" in known:
            return {}
        without = teacher.learned().get("without", ()) if isinstance(teacher, LearningTeacher) else ()
        if "seed" in cast("Sequence[str]", without):
            return {"seed": Finding("refused", "left out, so answers are not reproducible")}
        self._tell_seed(answers)
        return {}

    async def _several(self, teacher: AsyncTeacher) -> dict[str, Finding]:
        rows = self.config.rows_per_request
        advice = f"; teacher.rows_per_request: {rows} becomes 1" if rows > 1 else ""
        many: Any = teacher
        try:
            answers = await self._asked(teacher, self._twice)
        except TeacherError as error:
            if not isinstance(error, RetryModifiedError) and not (error.kind != "connection" and _MANY.search(error.message)):
                raise
            many.start_with({**many.learned(), "many": False})
            return {"n": Finding("refused", f"one answer per request{advice}")}
        if any(answer.finish_reason == "refusal" for answer in answers):
            return {"n": Finding("not tried", "the answers were withheld")}
        if len(answers) == 2:
            return {"n": Finding("taken", "2 answers came with one request")}
        return {"n": Finding("ignored", f"1 answer came instead of 2{advice}")}

    async def _structured(self, teacher: AsyncTeacher, known: Mapping[str, str]) -> dict[str, Finding]:
        found: dict[str, Finding] = {}
        probed = self.config.backend in {"openai", "litellm"} and "logprobs" not in known
        for options in [{"logprobs": True}, {}] if probed and "logprobs" not in self.config.options else [{}]:
            twin = self._twin(teacher, options)
            try:
                (answer,) = await self._asked(twin, self._instructed)
            except PermanentError as error:
                about = _LOGPROBS.search(error.message) is not None
                if not options or (error.final and not about):
                    raise
                self.refused += 1
                found["logprobs"] = Finding("refused", "" if about else error.message)
                continue
            finally:
                if twin is not teacher and getattr(twin, "http", None) is not getattr(teacher, "http", None):
                    await twin.close()
            if options:
                came = re.search(r'"logprobs":\s*[{\[]', answer.raw) is not None
                found["logprobs"] = Finding("taken") if came else Finding("ignored", "none came")
            return found | self._json_findings(teacher, twin, answer)
        return found

    def _twin(self, teacher: AsyncTeacher, options: Mapping[str, Any]) -> AsyncTeacher:
        """Return a teacher for the same server that asks for JSON."""
        if not isinstance(teacher, LearningTeacher) or self.config.backend not in SERVERS:
            return teacher
        changed = self._changed(structured="json", options={**self.config.options, **options})
        twin: Any = create_teacher(changed, fresh=True)
        twin.start_with(teacher.learned())
        if hasattr(teacher, "http"):
            twin.http = teacher.http
        return cast("AsyncTeacher", twin)

    def _json_findings(self, teacher: AsyncTeacher, twin: AsyncTeacher, answer: Response) -> dict[str, Finding]:
        learned = twin.learned() if isinstance(twin, LearningTeacher) else {}
        if twin is teacher:
            return {"system turns": Finding("taken"), "JSON": Finding("not tried", "this backend handles structured itself")}
        folded = bool(learned.get("folded"))
        turns = Finding("refused", "put before the user's turn") if folded else Finding("taken")
        form, schema = learned.get("form", 0), learned.get("schema", True)
        if form == 2 or schema is False:
            found = Finding("refused", "schema and json_object; JSON is asked for in words" if form else "asked for in words")
        elif form == 1:
            found = Finding("taken", "json_object; a schema is refused")
        else:
            found = Finding("taken", "by schema")
        if found.state == "taken" and not answer_text(self._changed(structured="json"), answer).strip():
            found = Finding("taken", f"{found.found}; the answer held no text")
        elif found.state == "taken" and answer.finish_reason != "refusal" and is_prose(answer.text):
            found = Finding("ignored", f"the answer was not JSON (form: {found.found})")
        return {"system turns": turns, "JSON": found}

    # what was found ----------------------------------------------------------------------------

    def _tell_seed(self, answers: Sequence[Response]) -> None:
        if any(answer.finish_reason == "refusal" for answer in answers):
            self.findings["seed"] = Finding("not tried", "an answer was withheld")
        elif answers[0].text != answers[1].text:
            self.findings["seed"] = Finding("ignored", "the same seed gave two answers")
        elif self._question.sampling.temperature == 0:
            self.findings["seed"] = Finding("taken", "the same answer twice, as expected at temperature 0")
        else:
            self.findings["seed"] = Finding("taken", "the same seed gave the same answer")

    def _tell_sampling(self, learned: Mapping[str, object]) -> None:
        without = cast("Sequence[str]", learned.get("without", ()))
        for name, off in _SAMPLED.items():
            value = getattr(self._question.sampling, name)
            if name in without:
                self.findings[name] = Finding("refused", "left out")
            elif value == off and self.config.backend == "anthropic" and name in {"temperature", "top_p"}:
                self.findings[name] = Finding("not tried", f"{off:g} is the API's default and not sent")
            elif value != off or name in {"temperature", "top_p"}:
                self.findings[name] = Finding("taken", f"{value:g}")
        limit = str(learned.get("limit", "max_tokens"))
        other = " (max_tokens is refused)" if limit != "max_tokens" else ""
        self.findings["max tokens"] = Finding("taken", f"{limit}: {self._question.sampling.max_tokens:,}{other}")

    def _tell_answer(self, answer: Response) -> None:
        self.findings["usage"] = usage_of(answer)
        self.findings["thoughts"] = thoughts_of(answer)
        self.findings["finish reason"] = finish_of(answer)
        self.findings["streaming"] = Finding("not tried", "answers are never streamed")

    def _tell_list(self) -> None:
        asked = [(path, reply) for method, path, reply in self._replies if method == "GET"]
        if self.config.backend in {"openai", "anthropic"}:
            self.findings["model list"] = listed(asked, self.config.model)
            if (limits := limits_of(asked, self.config.model)) is not None:
                self.findings["model limits"] = limits

    def _tell_rate(self) -> None:
        replies = [reply for method, _, reply in self._replies if method == "POST"]
        for reply in replies:
            self.headers |= rate_headers(reply.headers)
        shown = ", ".join(f"{name}: {value}" for name, value in self.headers.items())
        if self.config.backend in {"openai", "anthropic"} and replies:
            self.findings["rate headers"] = Finding("seen", shown or "none came")
            limited = next((reply for reply in reversed(replies) if reply.status in {429, 503, 529}), replies[-1])
            if limited.ok or limited.status in {429, 503, 529}:
                self.findings["wait"] = wait_of(limited)
