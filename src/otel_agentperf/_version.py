"""The package's version, which pyproject.toml reads here: asking the installed metadata takes 15 ms."""

VERSION = "0.1.0"
