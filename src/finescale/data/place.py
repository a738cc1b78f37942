"""Where files lie: paths of this machine, and URLs of object stores and web servers (``s3://bucket/rain.zarr``).

A URL is reached through fsspec: credentials and endpoints are those of the environment (``AWS_ACCESS_KEY_ID``,
``AWS_ENDPOINT_URL`` …) and of fsspec's own configuration. Files but Zarr are copied here whole before they are read.
"""

from __future__ import annotations

import atexit
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finescale.errors import InputError

if TYPE_CHECKING:
    from zarr.abc.store import Store

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_MANGLED = re.compile(r"(s3|gs|gcs|https?|file|memory|abfs|az):/(?!/)")
_BUCKETS = ("s3", "s3a", "gs", "gcs")
MARKS = ("zarr.json", ".zmetadata", ".zgroup")
"""Files that a Zarr store has."""


@dataclass(frozen=True)
class Remote:
    """A file or a folder behind a URL.

    Args:
        url: without a slash at the end.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url}/{name}")

    @property
    def protocol(self) -> str:
        """Such as s3."""
        return self.url.partition("://")[0].lower()

    @property
    def name(self) -> str:
        """What follows the last slash, without the query of a web address."""
        text = self.url.partition("?")[0] if self.protocol.startswith("http") else self.url
        return text.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Of the name, such as .zarr."""
        return Path(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return Path(self.name).stem

    @property
    def folder(self) -> str:
        """The URL of what holds it."""
        return self.url.rpartition("/")[0]

    @property
    def files(self) -> Any:
        """The file system of fsspec.

        Raises:
            InputError: for a protocol that is not known, or whose package is not installed.
        """
        import fsspec

        try:
            if self.protocol in ("s3", "s3a"):
                import s3fs  # noqa: F401
            elif self.protocol in ("http", "https"):
                import aiohttp  # noqa: F401
            return fsspec.filesystem(self.protocol)
        except ImportError as error:
            if error.name in ("s3fs", "aiohttp"):
                raise InputError(f"{self.url} needs {error.name}: pip install 'finescale[cloud]'") from None
            raise InputError(f"{self.url}: {error}") from None
        except ValueError:
            raise InputError(
                f"{self.url}: {self.protocol}:// is not known; s3://, gs://, http:// and https:// are"
            ) from None

    def content(self) -> bytes | None:
        """All bytes of a file; None where there is none."""
        try:
            return bytes(self.files.cat_file(self.url))
        except (FileNotFoundError, IsADirectoryError):
            return None

    def zarr_metadata(self) -> tuple[str, bytes] | None:
        """The name and content of the file that makes it a Zarr store; None where it is none."""
        if "?" in self.url:  # a web address with a query is that of a file
            return None
        found = ((mark, (self / mark).content()) for mark in MARKS)
        # A web server may answer with a page of its own what it does not have.
        return next(((mark, content) for mark, content in found if content is not None and content[:1] == b"{"), None)

    def names(self) -> list[str]:
        """All files in it, to any depth, or itself where it is one, by names of the file system.

        Raises:
            InputError: if its bucket is not there.
        """
        self.files.invalidate_cache()
        try:
            return sorted(self.files.find(self.url))
        except FileNotFoundError:
            self.check_bucket()
            return []

    def check_bucket(self) -> None:
        """Refuse a bucket that is not there.

        Raises:
            InputError: naming it.
        """
        if self.protocol not in _BUCKETS:
            return
        bucket = self.url.partition("://")[2].split("/")[0]
        try:
            self.files.info(bucket)
        except FileNotFoundError:
            raise InputError(f"{self.url}: there is no bucket {bucket}: create it first, or correct it") from None

    def put(self, content: bytes, new: bool = False) -> None:
        """Write a file; where it is to be ``new``, FileExistsError tells that it is not."""
        self.files.pipe_file(self.url, content, mode="create" if new else "overwrite")

    def upload(self, file: Path) -> None:
        """Write a file of this machine: the object appears whole."""
        self.files.put_file(str(file), self.url)

    def remove(self) -> None:
        """Delete a file, or all that lies in a folder."""
        names = self.names()
        if names:
            self.files.rm(names)

    def zarr(self, read_only: bool = False) -> Store:
        """The store of Zarr."""
        from zarr.storage import FsspecStore

        self.files  # noqa: B018  (its own words for a package that is missing)
        return FsspecStore.from_url(self.url, read_only=read_only)


Place = Path | Remote


def place(path: str | os.PathLike[str] | Remote) -> Place:
    """What ``path`` names: `Remote` for a URL, a path for anything else, ``file://`` too.

    Raises:
        InputError: for a URL that was taken for a path, which has but one slash.
    """
    if isinstance(path, Remote):
        return path
    text = os.fspath(path)
    found = _URL.match(text)
    if found is None or found[1].lower() in ("file", "local"):
        if found is None and _MANGLED.match(text) and not Path(text).exists():
            raise InputError(f"{text} is a URL that became a path: give it as text, {text.replace(':/', '://', 1)!r}")
        return Path(text if found is None else text[found.end() :])
    return Remote(text.rstrip("/"))


def local(path: str | Path, what: str) -> Path:
    """The path of a folder, ``what``, that lies on this machine.

    Raises:
        InputError: for a URL.
    """
    if _URL.match(str(path)) or (_MANGLED.match(str(path)) and not Path(path).exists()):
        raise InputError(f"{path} is a URL, but {what} is a folder of this machine: name one, and copy it")
    return Path(path)


@contextmanager
def reached(where: object) -> Iterator[None]:
    """Turn the failure to reach a URL into an InputError that names the cause; files that are not there stay so.

    Args:
        where: what is read.

    Raises:
        InputError: where a server does not answer, knows no credentials, or lets nobody in.
    """
    try:
        yield
    except (InputError, FileNotFoundError, FileExistsError, IsADirectoryError):
        raise
    except Exception as error:
        cause = cause_of(error)
        if cause is None:
            raise
        raise InputError(f"{where} cannot be reached: {cause}") from error


def cause_of(error: BaseException) -> str | None:
    """Why a URL was not reached, from whatever the libraries raise; None where the error tells of something else."""
    found: BaseException | None = error
    while found is not None:
        kind, text = type(found).__name__, str(found)
        if kind in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
            return "there are no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
        if isinstance(found, PermissionError) and type(found.__cause__).__module__.startswith("botocore"):
            return f"its server refuses ({text[:120]}): check the credentials and what they may do"
        if getattr(found, "status", None) in (401, 403):
            return f"its server refuses ({found.status}): check the address"  # type: ignore[attr-defined]
        if isinstance(found, FileNotFoundError) and "bucket does not exist" in text:
            return "its bucket does not exist"
        if kind in _AWAY or (isinstance(found, ConnectionError) and not isinstance(found, BrokenPipeError)):
            return "its server does not answer: check the address (AWS_ENDPOINT_URL for S3) and the network"
        if isinstance(found, OSError) and type(found.__cause__).__module__.startswith("botocore"):
            return text[:200]
        found = found.__cause__ or found.__context__
    return None


_AWAY = frozenset(
    ["EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "HTTPClientError"]
    + ["ClientConnectorError", "ClientConnectorDNSError", "ServerDisconnectedError", "ServerTimeoutError"]
    + ["ClientOSError", "ClientPayloadError", "FSTimeoutError", "ResponseParserError", "IncompleteRead"]
)
"""Names of the errors of botocore, aiohttp and fsspec for a server that is away, none of which are imported here."""


def matching(where: Remote, pattern: str) -> list[Place]:
    """What a glob behind a URL matches, in the order of names.

    Raises:
        InputError: where files are not listed.
    """
    if where.protocol.startswith("http"):
        raise InputError(f"{where}: a web server does not list its files: name each of them")
    with reached(where):
        where.files.invalidate_cache()
        return [Remote(f"{where.protocol}://{str(name).lstrip('/')}") for name in sorted(where.files.glob(pattern))]


def fetched(where: Remote) -> Path:
    """A file's copy on this machine, in a folder that goes when the process ends.

    Raises:
        InputError: if there is no such file, or it cannot be reached.
    """
    with reached(where):
        try:
            state = where.files.info(where.url)
        except FileNotFoundError:
            where.check_bucket()
            raise InputError(f"{where} does not exist") from None
        kept = tuple(str(state.get(key)) for key in ("ETag", "etag", "mtime", "LastModified", "size"))
        return _copied(where, kept)


def copied(where: Remote, names: Iterable[str]) -> Path:
    """A folder of this machine with those of some files that a remote one has; it goes when the process ends.

    Raises:
        InputError: if it cannot be reached.
    """
    made = folder(f"{where}/")
    with reached(where):
        for name in names:
            content = (where / name).content()
            if content is not None:
                (made / name).write_bytes(content)
    return made


@cache
def _copied(where: Remote, _state: tuple[str, ...]) -> Path:
    path = folder(str(where)) / (where.name or "file")
    where.files.get_file(where.url, str(path))
    return path


@cache
def folder(_of: str) -> Path:
    """A folder of its own for each file, since two may have one name; it goes when the process ends."""
    made = tempfile.TemporaryDirectory(prefix="finescale-", ignore_cleanup_errors=True)
    atexit.register(made.cleanup)
    return Path(made.name)


def exists(path: Path) -> bool:
    """Whether ``path`` is there; a name that no file can have is not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
