"""What the fields of a record mean, as its source says: the comment beside each field. Imports no torch."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@cache
def meanings(kind: type) -> Mapping[str, str]:
    """Returns the meanings of the fields of a dataclass, by name; fields without a comment are left out.

    The meaning of a field is the comment on its own lines, or else on the lines above it. Fields of base classes are
    included. Without the source there are none.
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        found.update(_of_class(each))
    return found


def summary(kind: type) -> str:
    """Returns the first line of a class's docstring; empty without one."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _of_class(kind: type) -> dict[str, str]:
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):  # a frozen program, or a class made at run time
        return {}
    comments: dict[int, str] = {}
    alone: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments[token.start[0]] = _cleaned(token.string)
            if not token.line[: token.start[1]].strip():
                alone.add(token.start[0])
    [definition] = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for node in definition.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            first = node.lineno
            while first - 1 in alone:
                first -= 1
            text = " ".join(comments[line] for line in lines if line in comments)
            text = text or " ".join(comments[line] for line in range(first, node.lineno))
            if text:
                found[node.target.id] = text
    return found


def _cleaned(comment: str) -> str:
    """Returns the words of a comment, without directives to linters and type checkers."""
    words = comment.lstrip("# ").rstrip()
    return "" if words.startswith(("noqa", "type:")) else words.partition("  # ")[0]
