"""`python -m otel_agentperf`: the command `agentperf`, where its script is not on the path."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main(prog_name="agentperf")
