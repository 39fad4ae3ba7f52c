"""One format a file. A module here has

- `render(reports, output)`: writes any number of `model.Report` to a text stream;
- `SUMMARY`: what the format is for, in a few words, for `--help`.

Nothing registers a module: being in this folder, or in the entry point group `otel_agentperf.renderers`, is enough.
"""
