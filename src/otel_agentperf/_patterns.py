"""Regular expressions that a user gives: read, and refused where one search might never end.

`re` cannot be interrupted, and the search runs in the user's call.
"""

from __future__ import annotations

import re
import sys
from typing import Any

EVERYTHING = r"(?s).+"
"""takes the place of a redaction pattern that is not valid: what was to be hidden stays hidden"""


def checked(pattern: str) -> str:
    """The pattern itself. Raises ValueError, which says why, for one that does not compile or may not end."""
    try:
        tree = _parse(pattern)
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(str(error)) from None
    if _nests(tree, inside=False):
        raise ValueError(
            "a repeat without a limit inside another one can take for ever; give one of them a limit, as in (a{1,9})+"
        )
    return pattern


def _parse(pattern: str) -> Any:
    if sys.version_info >= (3, 11):
        from re import _parser as parser
    else:
        import sre_parse as parser
    return parser.parse(pattern)


def _nests(item: Any, inside: bool) -> bool:
    """Is there a repeat without a limit in `item`, inside another one? Possessive ones are never gone back into."""
    item = getattr(item, "data", item)
    if isinstance(item, tuple) and len(item) == 2 and str(item[0]) in ("MAX_REPEAT", "MIN_REPEAT"):
        _, most, body = item[1]
        endless = str(most) == "MAXREPEAT"
        return (endless and inside) or _nests(body, inside or endless)
    if isinstance(item, (list, tuple)):
        return any(_nests(inner, inside) for inner in item)
    return False
