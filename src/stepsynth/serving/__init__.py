"""A trained student behind HTTP: what is served, within which limits, and the server itself.

    serve(open_student(folder), Limits(), listen("127.0.0.1", 8000), stop=threading.Event())

One thread owns the model. Requests wait as rows; whatever waits when the model is free is its next batch, whoever sent it.
FastAPI and uvicorn are imported with `stepsynth.serving.server` only.
"""

from __future__ import annotations

from stepsynth.serving.limits import Limits
from stepsynth.serving.students import Served, open_student

__all__ = ["Limits", "Served", "open_student"]
