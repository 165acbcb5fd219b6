"""Retries of transient failures, and translation of a file system's exceptions into ours. Imports no torch.

File systems are known by name only (fsspec loads S3's package when it is needed), so their exceptions are known by the
HTTP status they carry, by their errno and by the names of their classes.
"""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jukebox_core.base.atomic import FULL, lacking, write_error
from jukebox_core.base.locks import UNSUPPORTED
from jukebox_core.errors import DiskError, StoreError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jukebox_core.base.locks import FileLock
    from jukebox_core.store.config import RetryConfig

_T = TypeVar("_T")

_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_TRANSIENT = frozenset({errno.EIO, errno.ESTALE, errno.EBUSY, errno.EAGAIN, errno.ETIMEDOUT, errno.EHOSTUNREACH})
_FULL_STATUS = 507
_TRANSIENT_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 509})
_TRANSIENT_NAMES = frozenset(
    {
        "HTTPClientError",  # botocore: timeouts, connections that were closed or cut
        "ConnectionError",  # botocore and requests
        "ResponseParserError",  # botocore: a gateway's HTML page in place of a response
        "IncompleteReadError",  # botocore
        "IncompleteRead",  # urllib3
        "ClientPayloadError",  # aiohttp
        "ClientConnectionError",  # aiohttp
        "TransportError",  # google.auth
        "ServiceRequestError",  # azure.core
        "ServiceResponseError",  # azure.core
    }
)
_CERTIFICATE_NAMES = frozenset({"SSLError", "SSLCertVerificationError", "ClientConnectorCertificateError"})
_CREDENTIAL_NAMES = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "CredentialRetrievalError",
        "ProfileNotFound",
        "NoAuthTokenError",
        "TokenRetrievalError",
        "DefaultCredentialsError",
    }
)


def with_retries(call: Callable[[], _T], uri: str, retry: RetryConfig) -> _T:
    """Returns the result of `call`, which is repeated after transient failures.

    Raises:
        UnreachableError: every attempt failed with a transient failure.
        StoreError: an attempt failed otherwise, and was not repeated.
    """
    waits = retry.waits()
    while True:
        try:
            return call()
        except StoreError:
            raise
        except Exception as error:
            translated = translate(uri, error)
            if not (waits and isinstance(translated, UnreachableError)):
                raise translated from error
            time.sleep(waits.pop(0))


def try_lock(lock: FileLock) -> bool:
    """Returns whether `lock` could be acquired, without waiting.

    Raises:
        StoreError: the file cannot be created, or its file system has no locks.
    """
    try:
        return lock.acquire()
    except DiskError:
        raise
    except OSError as error:
        if error.errno in UNSUPPORTED:
            raise StoreError(f"the file system of {lock.path} has no locks; choose another folder") from error
        raise write_error(lock.path, error) from error


def translate(uri: str, error: Exception) -> StoreError:
    """Returns the StoreError, with the remedy, for a file system's `error`; UnreachableError if it is transient."""
    causes = list(_chain(error))
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    code = error.errno if isinstance(error, OSError) else None
    status = next((number for cause in causes if (number := _status(cause)) is not None), None)
    if isinstance(error, DiskError):
        return error
    if code in FULL or status == _FULL_STATUS:
        what = "space" if "://" in uri else lacking(Path(uri, "object"))
        return DiskError(
            f"no {what} left in {uri}; free some or choose another place (what is stored there is valid)", code
        )
    if names & _CREDENTIAL_NAMES:
        return StoreError(
            f"no credentials for {uri} ({error}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or "
            "whatever the service asks for"
        )
    if isinstance(error, PermissionError) or code in _REFUSED:
        return StoreError(
            f"access to {uri} was refused ({error}); check its owner and mode, or the credentials, or choose another"
        )
    if isinstance(error, FileNotFoundError):
        return StoreError(f"{uri} is not there ({error}); create the bucket or folder, or correct the address")
    if isinstance(error, FileExistsError | NotADirectoryError):
        return StoreError(f"{uri} is no folder, or lies below a file ({error}); choose another place")
    what = f"{type(error).__name__}: {error}"
    if _is_transient(error, code, status, names):
        return UnreachableError(f"{uri} cannot be reached ({what}); check the address and the network, and try again")
    return StoreError(f"{uri} cannot be used ({what}); check the address, the network and the credentials")


def _is_transient(error: Exception, code: int | None, status: int | None, names: set[str]) -> bool:
    if names & _CERTIFICATE_NAMES:
        return False
    if names & _TRANSIENT_NAMES:  # first, since aiohttp gives a truncated response the status 400
        return True
    if status is not None:
        return status in _TRANSIENT_STATUS
    return isinstance(error, TimeoutError | ConnectionError) or code in _TRANSIENT


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and its causes."""
    while error is not None:
        yield error
        error = error.__cause__


def _status(error: BaseException) -> int | None:
    """Returns the HTTP status that an error carries; None if it carries none."""
    response: Any = getattr(error, "response", None)
    found = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
    for name in ("status", "status_code", "code"):  # aiohttp, azure.core, gcsfs
        found = getattr(error, name, None) if found is None else found
    return found if isinstance(found, int) and not isinstance(found, bool) else None
