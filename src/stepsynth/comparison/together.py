"""Several cells at once: each in a thread of this process, started in their order as soon as what they need is done.

    run_together(4, work, needs=lambda place: None, at_once=lambda: 2)

When one fails, the others stop where everything is committed, and the failure is raised. A second Ctrl-C ends them at once.
"""

from __future__ import annotations

import contextvars
import threading
from typing import TYPE_CHECKING, TypeVar

from stepsynth.errors import Interrupted
from stepsynth.runtime.shutdown import check_stop, raise_in, stop_requested, stoppable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_together"]

T = TypeVar("T")
_TICK_S = 0.2
# After a second Ctrl-C.
_GRACE_S = 5.0


def run_together(
    count: int, work: Callable[[int], T], *, needs: Callable[[int], int | None], at_once: Callable[[], int]
) -> list[T]:
    """Call ``work`` for each place and return the results in order.

    Args:
        count: how many places there are.
        work: called in a thread of its own; calls `stepsynth.runtime.shutdown.check_stop` regularly.
        needs: the place that must be done before this one, or ``None``.
        at_once: how many may be worked on now.

    Raises:
        Interrupted: a stop was asked for.
        Exception: the first failure, in the order of the places.
    """
    done: dict[int, T] = {}
    failed: dict[int, BaseException] = {}
    threads: dict[int, threading.Thread] = {}
    changed = threading.Condition()

    def attempt(place: int) -> None:
        try:
            found = work(place)
        except BaseException as error:
            with changed:
                failed[place] = error
                changed.notify_all()
        else:
            with changed:
                done[place] = found
                changed.notify_all()

    def next_place() -> int | None:
        if len(threads) - len(done) - len(failed) >= at_once():
            return None
        ready = (place for place in range(count) if place not in threads)
        return next((place for place in ready if (need := needs(place)) is None or need in done), None)

    with stoppable() as stop:
        try:
            while len(done) < count:
                with changed:
                    if failed:
                        stop.set()
                    if stop_requested() and len(done) + len(failed) == len(threads):
                        break
                    place = None if stop_requested() else next_place()
                    if place is None:
                        changed.wait(_TICK_S)
                        continue
                context = contextvars.copy_context()
                threads[place] = threading.Thread(
                    target=context.run, args=(attempt, place), name=f"stepsynth-cell-{place + 1}", daemon=True
                )
                threads[place].start()
        except BaseException:
            stop.set()
            alive = [thread for thread in threads.values() if thread.is_alive()]
            for thread in alive:
                raise_in(thread.ident or 0)
            for thread in alive:
                thread.join(_GRACE_S / len(alive))
            raise
    real = [failed[place] for place in sorted(failed) if not isinstance(failed[place], Interrupted)]
    if real:
        raise real[0]
    check_stop()
    if failed:
        raise failed[min(failed)]
    return [done[place] for place in range(count)]
