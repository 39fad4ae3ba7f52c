"""One kind of bottleneck a file. A module here has

- `detect(run) -> Iterable[Finding]`: pure; states its threshold and a `Change` that its fix would make;
- optionally `REPLACED_BY`: kinds that speak instead where they are about the same calls ("*": any).

`analysis.analyze` replays the change for the saving and drops what saves too little. Nothing registers a
module: being in this folder, or in the entry point group `otel_agentperf.detectors`, is enough.
"""
