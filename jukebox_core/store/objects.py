"""Opens the objects under an address: a local path, or any file system that fsspec knows. Imports no torch."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from jukebox_core.errors import StoreError, did_you_mean
from jukebox_core.store.config import RetryConfig
from jukebox_core.store.local import LocalObjects
from jukebox_core.store.remote import RemoteObjects

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jukebox_core.store.place import Objects

_SCHEMES = ("s3", "file", "memory", "gs", "abfs")
_S3 = ("s3", "s3a")
_ONE_SLASH = re.compile(rf"^({'|'.join(_SCHEMES + _S3)}):/?(?!/)")  # would be a local folder named "s3:"


def open_objects(uri: str, options: Mapping[str, Any] | None = None, retry: RetryConfig | None = None) -> Objects:
    """Returns the objects under `uri`: a local path, or an address such as ``s3://bucket/folder``.

    Opens no connection. `options` go to the fsspec file system; S3's endpoint may also be in the environment, as
    AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL.

    Raises:
        StoreError: The scheme is unknown or misspelt, or the package that serves it is not installed.
    """
    retry = retry or RetryConfig()
    if found := _ONE_SLASH.match(uri):
        raise StoreError(f"{uri} is neither a folder nor an address; write {found[1]}://{uri[found.end() :]}")
    if "://" not in uri:
        return LocalObjects(Path(uri), retry)
    scheme = uri.partition("://")[0]
    try:
        system, root = fsspec.core.url_to_fs(uri, **_options(scheme, dict(options or {})))
    except ImportError as error:
        remedy = "pip install 'jukebox-pipelines[s3]'" if scheme in _S3 else str(error)
        raise StoreError(f"{uri} needs a package that is not installed; {remedy}") from error
    except ValueError as error:
        hint = did_you_mean(scheme, _SCHEMES)
        raise StoreError(f"{uri} cannot be a store ({error}); give a local path or s3://bucket/folder{hint}") from error
    if isinstance(system, LocalFileSystem):
        return LocalObjects(Path(root), retry)
    if scheme in _S3:
        system.retries = 1  # `with_retries` repeats; three nested loops of retries would take minutes
    return RemoteObjects(uri, system, root, retry)


def _options(scheme: str, given: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of the file system: those `given`, and defaults that suit small objects."""
    options: dict[str, Any] = {"use_listings_cache": False, **given}  # other processes write here
    if scheme not in _S3:
        return options
    options.setdefault("max_concurrency", 1)  # else every read asks for the object's size first
    client, config = options.get("client_kwargs", {}), options.get("config_kwargs", {})
    quick = {"connect_timeout": 5, "read_timeout": 15}  # seconds; objects are small, and botocore's minute is long
    options["config_kwargs"] = quick | {"retries": {"total_max_attempts": 1}} | config
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and "endpoint_url" not in options and "endpoint_url" not in client:
        options["endpoint_url"] = endpoint  # fsspec caches a file system by its options, so they must include it
    return options
