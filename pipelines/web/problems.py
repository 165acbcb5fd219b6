"""Errors as the API answers them: each problem with its key, value, rule and remedy. Imports no torch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import JukeboxError, RunError
from pipelines.exit_status import REFUSED, exit_status

if TYPE_CHECKING:
    from collections.abc import Sequence

_VALUE = re.compile(r"(?P<key>[\w.-]+) (?:is|has|names|needs) (?P<value>'[^']*'|\[[^\]]*\]|[^\s,;]+)")
_NAMED = re.compile(r"(?P<key>artist|genre|run)? ?'(?P<value>[^']*)' is")


class NotFoundError(JukeboxError):
    """What an address names is not there."""


def status_of(error: JukeboxError) -> int:
    """Returns the HTTP status of an error: 404 not there, 409 a run that is busy or unknown, 422 refused, else 503."""
    if isinstance(error, NotFoundError):
        return 404
    if isinstance(error, RunError):
        return 409 if "running" in str(error) or "another process" in str(error) else 422
    return 422 if exit_status(error) == REFUSED else 503


def answer(error: JukeboxError) -> dict[str, Any]:
    """Returns the body of the answer to a request that was refused by a check of the program."""
    return {
        "error": type(error).__name__,
        "message": str(error),
        "problems": [problem(line) for line in str(error).splitlines() if line.strip()],
    }


def problem(line: str) -> dict[str, str]:
    """Returns one problem: what the message says, split into key, value, rule and remedy as far as it shows them."""
    rule, _, remedy = line.partition("; ")
    found = _VALUE.match(rule) or _NAMED.match(rule)
    key, value = (found["key"] or "", found["value"].strip("'")) if found else ("", "")
    return {"key": key, "value": value, "rule": rule, "remedy": remedy, "message": line}


def answer_of_shape(errors: Sequence[Any]) -> dict[str, Any]:
    """Returns the body of the answer to a request whose shape is wrong: a name, a type or a range."""
    problems = []
    for each in errors:
        key = ".".join(str(part) for part in each.get("loc", ())[1:])
        value, rule = repr(each.get("input"))[:100], str(each.get("msg", "is wrong"))
        remedy = "see /api/openapi.json for what it takes"
        message = f"{key or 'the request'}: {rule}; {remedy}"
        problems.append({"key": key, "value": value, "rule": rule, "remedy": remedy, "message": message})
    return {
        "error": "RequestError",
        "message": "\n".join(each["message"] for each in problems),
        "problems": problems,
    }
