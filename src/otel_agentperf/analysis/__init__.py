"""Pure functions from spans to reports. `analyze.analyze` is the heart; each other module is one step of it."""
