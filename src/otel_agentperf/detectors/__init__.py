"""One kind of bottleneck a file. A module here has

- `detect(run) -> Iterable[Finding]`: pure; states its threshold and a `Change` that its fix would make;
- `TITLE`: the kind in plain words, to follow a name (`search: same call made again`);
- optionally `REPLACED_BY`: kinds that speak instead where they are about the same calls ("*": any);
- optionally `SAVES_TIME = True`: all its findings state a change, so that it need not look at a run too short for one;
- optionally `NEEDS_WHOLE_RUN = True`: where spans are missing, its findings are `info`;
- optionally `SPEAKS_BESIDES = True`: it never speaks instead of another kind;
- optionally `THRESHOLDS`: the names (without the kind) of those it asks for, so that a misspelt one is reported.

`analysis.analyze` replays the change for the saving and drops what saves too little. Nothing registers a
module: being in this folder, or in the entry point group `otel_agentperf.detectors`, is enough.
"""
