"""Keep the last results of a slow function whose result depends on nothing but its arguments.

    @remembered(most=16)
    def drawn(lines, *, narrow): ...

A run draws its page several times, the cells of a comparison share their labelled rows: what was computed is not computed again
in the same process.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import threading
from collections import OrderedDict
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Remembered", "remembered"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class Remembered(Generic[_P, _R]):
    """A function with the last results at hand; a caller gets a copy, which it may change.

    Args:
        function: depends on its arguments alone: values that JSON knows, dataclasses, sets and arrays of numbers.
        most: how many results are kept; the one that was used longest ago goes first.
    """

    def __init__(self, function: Callable[_P, _R], most: int) -> None:
        self._function, self._most = function, most
        self._results: OrderedDict[str, _R] = OrderedDict()
        self._lock = threading.Lock()
        functools.update_wrapper(self, function)

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Return the result for these arguments, computed or kept."""
        told = json.dumps([args, kwargs], default=_plain, sort_keys=True)
        key = hashlib.sha256(told.encode("ascii")).hexdigest()
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return copy.deepcopy(self._results[key])
        found = self._function(*args, **kwargs)
        with self._lock:
            self._results[key] = copy.deepcopy(found)
            while len(self._results) > self._most:
                self._results.popitem(last=False)
        return found

    def forget(self) -> None:
        """Forget all results."""
        with self._lock:
            self._results.clear()


def remembered(*, most: int) -> Callable[[Callable[_P, _R]], Remembered[_P, _R]]:
    """Return a decorator that keeps a function's last results, see `Remembered`."""
    return lambda function: Remembered(function, most)


def _plain(value: Any) -> Any:
    """Describe what JSON does not know."""
    if is_dataclass(value) and not isinstance(value, type):
        # Not `asdict` of all at once: it copies arrays.
        return [type(value).__name__, {name: getattr(value, name) for name in value.__dataclass_fields__}]
    if isinstance(value, set | frozenset):
        return ["set", sorted(value)]
    if hasattr(value, "tobytes"):
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    raise TypeError(f"a {type(value).__name__} is no value that a result can be remembered by")
