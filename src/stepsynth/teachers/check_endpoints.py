"""A check of several servers of one model: the whole check of the first one that answers, and one question to each other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from stepsynth.errors import BudgetError, TeacherError
from stepsynth.teachers import create_teacher
from stepsynth.teachers.check import TeacherCheck
from stepsynth.teachers.findings import Finding
from stepsynth.teachers.learned import remember
from stepsynth.teachers.purse import Bill

if TYPE_CHECKING:
    from stepsynth.config import BudgetConfig, TeacherConfig
    from stepsynth.errors import StepsynthError
    from stepsynth.teachers import AsyncTeacher

__all__ = ["EndpointsCheck"]


class EndpointsCheck(TeacherCheck):
    """One check; its findings have a line for each server (``server 1``, ``server 2``, ...) besides those of `TeacherCheck`.

    ``problem`` is set only if no server works, because a run leaves out those that do not.

    Args:
        config: the teacher's config, with several addresses.
        budget: hard caps.

    Attributes:
        servers: their addresses.

    Raises:
        ConfigError: dollars are capped and the price is unknown.
    """

    def __init__(self, config: TeacherConfig, budget: BudgetConfig) -> None:
        # Refuses a cap in dollars that the servers' prices do not let it keep.
        TeacherCheck(config, budget)
        super().__init__(config.at(config.base_urls[0], alone=True), budget)
        self._each = {address: self._live(config.at(address, alone=True)) for address in config.base_urls}
        self.servers = config.base_urls
        more, one = len(self.servers) - 1, self.purse.worst(self._alone)
        usd = None if self.worst.usd is None else self.worst.usd + more * (one.usd or 0.0)
        self.worst = Bill(self.worst.requests + more, self.worst.tokens + more * one.tokens, usd)

    @staticmethod
    def _live(config: TeacherConfig) -> TeacherConfig:
        return config.model_copy(update={"mode": "live"})

    def run(self) -> None:
        """Run the check; ``problem`` is then the error that would keep a run from working."""
        lines: dict[str, Finding] = {}
        problem: StepsynthError | None = None
        whole = False
        for number, (address, said) in enumerate(asyncio.run(self._look_up_all()).items(), 1):
            if isinstance(said, TeacherError):
                problem, line = problem or said, Finding("refused", said.message)
            elif whole:
                line = asyncio.run(self._one_question(address, said))
            else:
                self.config, self.problem, self.findings = self._each[address], None, {}
                super().run()
                whole, problem = self.problem is None, problem or self.problem
                line = Finding("seen", f"{said} It was asked all questions.") if whole else Finding("refused", str(self.problem))
            lines[f"server {number}"] = line
        self.problem = None if whole else problem
        self.findings = {**lines, **self.findings}

    async def _look_up_all(self) -> dict[str, str | TeacherError]:
        return dict(zip(self._each, await asyncio.gather(*map(self._listed, self._each.values())), strict=True))

    async def _listed(self, config: TeacherConfig) -> str | TeacherError:
        teacher: Any = create_teacher(config, fresh=True)
        try:
            return str(await teacher.probe())
        except TeacherError as error:
            return error
        finally:
            await teacher.close()

    async def _one_question(self, address: str, said: str) -> Finding:
        config = self._each[address]
        teacher = cast("AsyncTeacher", create_teacher(config, fresh=True))
        try:
            _, seconds = await self._first(teacher)
        except (TeacherError, BudgetError) as error:
            return Finding("refused", str(error))
        finally:
            await teacher.close()
        remember(config, teacher, anew=True)
        return Finding("seen", f"{said} It answered in {seconds:.2f} s.")
