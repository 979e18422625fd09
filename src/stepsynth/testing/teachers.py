"""The contract of a teacher as tests, for its author.

    from stepsynth.testing import TeacherContract

    class TestMyTeacher(TeacherContract):
        def config(self) -> TeacherConfig:
            return TeacherConfig(backend="my-teacher", model="small", concurrency=2)

Pytest finds the tests in the subclass. Only ``config`` is required; the hooks `sent`, `attempts` and
`break_next` show what reaches the server. Tests without their hook, or for the other kind of teacher,
are skipped.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_args

from stepsynth.errors import TeacherError
from stepsynth.teachers import AsyncTeacher, EngineTeacher, answer_of, create_teacher
from stepsynth.types import FinishReason, Message, Request, Response, Sampling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from stepsynth.config import TeacherConfig

__all__ = ["TEMPLATE_LIKE", "TeacherContract", "make_request"]

T = TypeVar("T")

# Text that a template engine, a shell, a format string or a chat template could interpret.
TEMPLATE_LIKE = "{{7*7}} {% raw %} ${HOME} {0.__class__} %s %(x)s $(id) `id` <|im_end|> </s> [INST] \u2028\u2029\u0085 \u202eabc"
_PROMPTS = {
    "empty": "",
    "white space": " \n\t ",
    "one letter": "a",
    "no letters": "?!.,;",
    "emoji": "\U0001f680\U0001f468\u200d\U0001f469 \u00e9 e\u0301",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u202e abc",
    "control characters": "a\x00b\x07c\r\nd",
    "lone surrogates": "a \ud83d b \udc00",
    "template-like": TEMPLATE_LIKE,
    "long": "word " * 3000,
}


def make_request(text: str = "Write one sentence about a film.", replicate: int = 0, **sampling: Any) -> Request:
    """Return a request with one user turn and at most eight tokens, unless ``sampling`` sets another limit."""
    return Request((Message("user", text),), Sampling(**{"max_tokens": 8, **sampling}), replicate, "round-0/seed", 0, "")


class TeacherContract:
    """The behaviour that stepsynth relies on; subclass it in a test file."""

    # the author's part ----------------------------------------------------------------

    def config(self) -> TeacherConfig:
        """Return the config of the teacher under test; called often, and must always return the same."""
        raise NotImplementedError("a TeacherContract needs a config()")

    def draws_by_batch(self) -> bool:
        """Return whether an engine samples for a whole batch, so that only the same batch gives the same answers."""
        return False

    def make(self) -> AsyncTeacher | EngineTeacher:
        """Return a teacher; by default the one in the config."""
        teacher = create_teacher(self.config())
        if isinstance(teacher, AsyncTeacher | EngineTeacher):
            return teacher
        raise AssertionError("the config names a batch API; set mode: live")

    def sent(self) -> list[tuple[str, str]] | None:
        """Return the role and content of the last request's turns as they arrived at the server."""
        return None

    def attempts(self) -> int | None:
        """Return the number of requests that arrived at the server so far."""
        return None

    def break_next(self) -> bool:
        """Make the next attempt fail at the server; return whether that is possible."""
        return False

    # both kinds ------------------------------------------------------------------------

    def test_it_is_a_teacher_of_one_kind(self) -> None:
        """It satisfies exactly one of the two Protocols."""
        teacher = self.make()
        kinds = isinstance(teacher, AsyncTeacher), isinstance(teacher, EngineTeacher)
        _check(sum(kinds) == 1, "it has neither generate() and close() nor generate_batch(), or both")

    def test_its_identity_is_stable_and_can_be_written_down(self) -> None:
        """Answers are kept under it, so a key must be the same tomorrow."""
        first, second = self.config().identity(), self.config().identity()
        _check(first == second, "two equal configs have two identities")
        _check(json.loads(json.dumps(first)) == first, "the identity is not plain JSON")

    def test_an_answer_has_all_its_parts(self) -> None:
        """Text, finish reason, usage and raw body have the right types, and the text can be stored."""
        for response in self._answers([make_request(), make_request(replicate=1)]):
            _check_response(response)

    def test_any_prompt_is_answered_or_refused_in_our_words(self) -> None:
        """Empty, long and odd texts: a `Response` or a `TeacherError`, nothing else."""
        for name, text in _PROMPTS.items():
            try:
                answers = self._answers([make_request(text)])
            except TeacherError:
                continue
            except Exception as error:
                raise AssertionError(f"prompt {name!r}: {type(error).__name__} is not a TeacherError") from error
            for response in answers:
                _check_response(response)

    def test_several_turns_are_taken(self) -> None:
        """Prompts are chats with a system turn and earlier answers."""
        turns = (Message("system", "Be brief."), Message("user", "One."), Message("assistant", "Two."), Message("user", "Three."))
        _check_response(self._answers([Request(turns, Sampling(max_tokens=8), 0, "round-0/seed", 0, "")])[0])

    def test_prompt_text_reaches_the_server_unchanged(self) -> None:
        """Text from rows and models is never a template (with ``structured``, more may follow it)."""
        if self.sent() is None:
            _skip("sent() is not given")
        turns = (Message("system", TEMPLATE_LIKE[::-1]), Message("user", TEMPLATE_LIKE))
        self._answers([Request(turns, Sampling(max_tokens=8), 0, "round-0/seed", 0, "")])
        arrived = self.sent() or []
        _check([role for role, _ in arrived] == ["system", "user"], f"the turns arrived as {arrived!r}")
        for (_, content), turn in zip(arrived, turns, strict=True):
            _check(content.startswith(turn.content), f"{turn.content!r} arrived as {content!r}")

    # teachers behind a network ---------------------------------------------------------

    def test_one_generate_is_one_attempt(self) -> None:
        """Only the client retries."""
        self._needs_async()
        before = self.attempts()
        if before is None:
            _skip("attempts() is not given")
        self._answers([make_request()])
        _check((self.attempts() or 0) - before == 1, "one answer took several requests")
        if self.break_next():
            self._error()
            _check((self.attempts() or 0) - before == 2, "a failed attempt was repeated")

    def test_a_failure_is_one_of_our_errors(self) -> None:
        """Any other exception would end the run, and its text could contain the key."""
        self._needs_async()
        if not self.break_next():
            _skip("break_next() is not given")
        error = self._error()
        _check(isinstance(error, TeacherError), f"{type(error).__name__} is not a TeacherError")
        _check("\n" not in str(error) and len(str(error)) < 1000, "an error must be one short line")

    def test_many_requests_at_once_are_all_answered(self) -> None:
        """More than ``concurrency`` requests."""
        self._needs_async()
        count = 3 * min(self.config().concurrency, 8)
        _check(len(self._answers([make_request(replicate=i) for i in range(count)])) == count, "an answer is missing")

    def test_it_closes_and_opens_again_even_in_another_loop(self) -> None:
        """A run closes its teacher between stages."""
        teacher = self._needs_async()

        async def twice() -> Response:
            await teacher.close()
            response = await answer_of(teacher, make_request())
            await teacher.close()
            await teacher.close()
            return response

        for _ in range(2):
            _check_response(asyncio.run(twice()))

    def test_a_cancelled_request_leaves_the_teacher_usable(self) -> None:
        """Ctrl-C and time-outs cancel requests in flight."""

        async def work(teacher: AsyncTeacher) -> Response:
            task = asyncio.ensure_future(teacher.generate(make_request()))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return await answer_of(teacher, make_request(replicate=1))

        _check_response(self._use(work))

    def test_several_rows_per_request_are_answered_in_order(self) -> None:
        """`generate_many`, if it exists, gives at least one answer and at most one per request."""
        teacher: Any = self._needs_async()
        if not hasattr(teacher, "generate_many"):
            _skip("it has no generate_many()")

        async def work(teacher: Any) -> list[Response]:
            return list(await teacher.generate_many([make_request(replicate=i) for i in range(3)]))

        answers = self._use(work)
        _check(1 <= len(answers) <= 3, f"{len(answers)} answers to 3 requests")
        for response in answers:
            _check_response(response)

    # engines in this process -----------------------------------------------------------

    def test_requests_are_read_only_as_far_as_there_is_room(self) -> None:
        """After a stop or at a cap no more requests are read, and those already read are still answered."""
        engine = self._needs_engine()
        total = 16 * self.config().concurrency
        read: list[int] = []

        def feed() -> Iterator[Request]:
            for index in range(total):
                read.append(index)
                yield make_request(replicate=index, max_tokens=2)

        answers = engine.generate_batch(feed(), iter(range(total)))
        next(answers)
        _check(len(read) < total, f"all {total} requests were read before the first answer")
        getattr(answers, "close", lambda: None)()

    def test_every_position_comes_once_and_requests_may_end_early(self) -> None:
        """There may be more seeds than requests."""
        engine = self._needs_engine()
        count = self.config().concurrency + 1
        found = list(engine.generate_batch([make_request(replicate=i) for i in range(count)], range(100)))
        _check(sorted(position for position, _ in found) == list(range(count)), "positions are missing or doubled")
        _check(list(engine.generate_batch([], range(5))) == [], "no requests, but answers")

    def test_an_answer_does_not_depend_on_its_neighbours(self) -> None:
        """The same request and seed give the same answer, alone and among requests of other lengths."""
        engine = self._needs_engine()
        if self.draws_by_batch():
            _skip("it samples for a whole batch")
        requests = [make_request("A film " * (1 + 5 * i), max_tokens=4 + i) for i in range(3)]
        seeds = [11, 12, 13]
        together = dict(engine.generate_batch(requests, seeds))
        for place, (request, seed) in enumerate(zip(requests, seeds, strict=True)):
            alone = dict(engine.generate_batch([request], [seed]))[0]
            _check(alone.text == together[place].text, f"{alone.text!r} alone, {together[place].text!r} among others")

    def test_an_answer_ends_at_its_token_limit(self) -> None:
        """Each request has its own."""
        engine = self._needs_engine()
        requests = [make_request(replicate=limit, max_tokens=limit) for limit in (1, 6)]
        for place, response in engine.generate_batch(requests, [1, 2]):
            limit = requests[place].sampling.max_tokens
            _check(response.usage.completion_tokens <= limit, f"{response.usage.completion_tokens} tokens, {limit} allowed")

    # ------------------------------------------------------------------------------------

    def _needs_async(self) -> AsyncTeacher:
        teacher = self.make()
        return teacher if isinstance(teacher, AsyncTeacher) else _skip("an engine in this process")

    def _needs_engine(self) -> EngineTeacher:
        teacher = self.make()
        return teacher if isinstance(teacher, EngineTeacher) else _skip("a teacher behind a network")

    def _answers(self, requests: Sequence[Request]) -> list[Response]:
        teacher = self.make()
        if isinstance(teacher, EngineTeacher):
            found = dict(teacher.generate_batch(requests, range(len(requests))))
            return [found[place] for place in range(len(requests))]

        async def work(teacher: AsyncTeacher) -> list[Response]:
            return list(await asyncio.gather(*(answer_of(teacher, request) for request in requests)))

        return self._use(work, teacher)

    def _error(self) -> BaseException:
        try:
            self._answers([make_request()])
        except Exception as error:
            return error
        raise AssertionError("break_next() had no effect")

    def _use(self, work: Callable[[AsyncTeacher], Awaitable[T]], teacher: AsyncTeacher | None = None) -> T:
        opened = teacher or self._needs_async()

        async def main() -> T:
            try:
                return await work(opened)
            finally:
                await opened.close()

        return asyncio.run(main())


def _check_response(response: object) -> None:
    if not isinstance(response, Response):
        raise AssertionError(f"{type(response).__name__} is not a Response")
    _check(isinstance(response.text, str) and isinstance(response.raw, str), "text and raw must be strings")
    _check(response.finish_reason in get_args(FinishReason), f"unknown finish reason {response.finish_reason!r}")
    response.text.encode()
    response.raw.encode()
    usage = response.usage
    for count in (usage.prompt_tokens, usage.completion_tokens):
        _check(isinstance(count, int) and count >= 0, f"{count!r} is not a token count")
    _check(usage.cost_usd is None or usage.cost_usd >= 0, f"a cost of {usage.cost_usd!r}")


def _check(holds: object, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)


def _skip(why: str) -> NoReturn:
    import pytest

    pytest.skip(why)
