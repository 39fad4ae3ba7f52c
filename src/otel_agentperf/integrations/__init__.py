"""One framework, client or cache a file. A module here has

- `MODULES`: the modules whose import it waits for (empty: patched at once);
- optionally `PARTS`: further modules of it, each patched when the program imports it;
- `DISTRIBUTION` and `VERSIONS`: the package and the range it was tested with, e.g. `">=5,<9"` ("" : standard library);
- `SOURCE`: where the spans come from: `"wrapped"` (we wrap functions), `"hook"` (the library's own callbacks),
  `"native"` (the library's own spans, completed where they lack something), `"counted"` (no spans, counters);
- `COVERS`: what is told of the library, of `COVERABLE`;
- optionally `TITLE`: what the docs call it, where that is not the package's name;
- optionally `LIMITS`: sentences on what its traces cannot show, each with the setting that mends it;
- `patch(patches)`: replaces what has to be, through `capture.patching.Patches`, so that it can be put back;
- optionally `unpatch()`: undoes what went another way (a hook that the library offers).

Nothing registers a module: being in this folder, or in the entry point group `otel_agentperf.integrations`, is
enough. A library is imported only inside `patch`, which runs after the program imported it.
"""

COVERABLE = ("agents", "tools", "llm", "tokens", "streaming", "handoffs", "retrieval", "caches")
