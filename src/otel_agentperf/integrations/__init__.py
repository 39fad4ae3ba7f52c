"""One framework, client or cache a file. A module here has

- `MODULES`: the modules whose import it waits for (empty: patched at once);
- `DISTRIBUTION` and `VERSIONS`: the package and the range it was tested with, e.g. `">=5,<9"` ("" : standard library);
- `patch(patches)`: replaces what has to be, through `capture.patching.Patches`, so that it can be put back;
- optionally `unpatch()`: undoes what went another way (a hook that the library offers).

Nothing registers a module: being in this folder, or in the entry point group `otel_agentperf.integrations`, is
enough. A library is imported only inside `patch`, which runs after the program imported it.
"""
