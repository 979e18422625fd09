"""Deterministic simulation of the executor: one thread, a simulated clock, one seed; production code throughout.

    python -m tests.simulation --seeds 100000      # many histories
    python -m tests.simulation --seed 17 --trace   # one of them, step by step

See docs/reliability.md.
"""
