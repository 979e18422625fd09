"""``python -m stepsynth``."""

from __future__ import annotations

from stepsynth.cli.main import main

if __name__ == "__main__":
    main()
