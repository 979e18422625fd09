"""What tests on a Ray cluster have in common."""

from __future__ import annotations

import pytest

__all__ = ["MARKS"]

# Ray's own processes, sockets and warnings are left to Ray.
MARKS = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("ResourceWarning", "pytest.PytestUnraisableExceptionWarning", "FutureWarning", "DeprecationWarning")
]
