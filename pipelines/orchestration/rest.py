"""Requests to the HTTP API of a Prefect server. Imports no Prefect, which takes seconds."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
import uuid
from http.client import HTTPException
from typing import Any

from jukebox_core.errors import RunError

REQUEST_SECONDS = 10.0  # that a server has for one answer
_FORBIDDEN, _TOO_LARGE_FOR_TEXT = 403, 300


class Api:
    """A client of the server at one API address, with its password and CSRF protection."""

    def __init__(self, url: str, credentials: str | None) -> None:
        """Makes no request yet. `credentials` is ``user:password``; None: the server asks for none."""
        self._url = url
        self._headers = {"Content-Type": "application/json"}
        if credentials:
            self._headers["Authorization"] = "Basic " + base64.b64encode(credentials.encode()).decode("ascii")
        self._has_token = False

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Returns the decoded answer of the server to a request; None if it is empty.

        Raises:
            OSError: there is no answer in time.
            RunError: the server refuses the request.
        """
        if method != "GET" and not self._has_token:
            self._fetch_token()
        try:
            return self._ask(method, path, body)
        except urllib.error.HTTPError as error:
            if error.code != _FORBIDDEN:
                raise _refusal(method, path, error) from None
        self._fetch_token()  # the token of before has expired
        try:
            return self._ask(method, path, body)
        except urllib.error.HTTPError as error:
            raise _refusal(method, path, error) from None

    def _fetch_token(self) -> None:
        """Asks for a CSRF token; a server without that protection has none."""
        client = str(uuid.uuid4())
        try:
            answer = self._ask("GET", f"csrf-token?client={client}", None)
        except urllib.error.HTTPError as error:
            with error:
                pass
        else:
            self._headers |= {"Prefect-Csrf-Token": str(answer["token"]), "Prefect-Csrf-Client": client}
        self._has_token = True

    def _ask(self, method: str, path: str, body: object) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/{path}", data, self._headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_SECONDS) as reply:  # noqa: S310 - checked before
                text = reply.read()
        except HTTPException as error:
            raise ConnectionError(str(error) or type(error).__name__) from None
        return json.loads(text) if text else None


def _refusal(method: str, path: str, error: urllib.error.HTTPError) -> Exception:
    """Returns the exception for an answer with an error status: the server may recover from one of its own."""
    with error:
        said = error.read(_TOO_LARGE_FOR_TEXT).decode("utf-8", "replace")
    text = f"status {error.code} for {method} {path.partition('?')[0]}: {said}"
    return ConnectionError(text) if error.code >= 500 or error.code == 429 else RunError(text)
