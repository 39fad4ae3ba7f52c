"""From a call to a span: one lifecycle (`invocation`), one wrapper for callables, one driver a kind of stream."""
