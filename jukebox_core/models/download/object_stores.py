"""Object stores as sources, through fsspec: S3, Google Cloud Storage, Azure. Imports no torch.

Credentials and endpoints are those of the store's own tools (AWS_PROFILE, AWS_ENDPOINT_URL, GOOGLE_APPLICATION_...).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from jukebox_core.models.download.replies import Reply, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jukebox_core.models.config import FileSpec

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
_BLOCK = 8 << 20  # bytes per request; an open file holds a small multiple in memory


@dataclass(frozen=True, slots=True)
class ObjectSource:
    """A bucket, or a prefix in one."""

    remote: ClassVar[bool] = True
    base: str

    @property
    def name(self) -> str:
        """Its address."""
        return self.base

    @contextmanager
    def open(self, spec: FileSpec, start: int, _stop: int | None = None) -> Iterator[Reply]:
        """Opens the object, which is read in blocks, without reading ahead of them."""
        scheme = self.base.partition(":")[0]
        try:
            import fsspec

            fs, path = fsspec.core.url_to_fs(f"{self.base.rstrip('/')}/{spec.path}")
        except ImportError as error:
            package = _PACKAGES.get(scheme, "adlfs")
            raise SourceError(f"needs the package {package}: pip install {package}", final=True) from error
        with _errors_of_store():
            # An earlier listing may be outdated: the object may have been replaced.
            fs.invalidate_cache()
            info = fs.info(path)
            file = fs.open(path, "rb", block_size=_BLOCK, cache_type="readahead")
        with file:
            file.seek(start)

            def read(size: int) -> bytes:
                with _errors_of_store():
                    content: bytes = file.read(size)
                    return content

            version = info.get("ETag") or info.get("etag") or info.get("mtime") or info.get("last_modified")
            yield Reply(read, start, info["size"], None if version is None else str(version), ranges=True)


@contextmanager
def _errors_of_store() -> Iterator[None]:
    """Turns any exception of a store's package into a `SourceError`."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceError("has no such file", final=True) from error
    except PermissionError as error:
        raise SourceError(f"refused access ({error}); check the credentials", final=True) from error
    except Exception as error:  # each store has errors of its own
        raise SourceError(f"failed ({type(error).__name__}: {error})", final="Credentials" in str(error)) from error
