"""The text of a record: canonical JSON, named by the hash of its content, strict in fields and types.

A record keeps the bytes it was written with for ever; one of an older schema is read through `migrations`. What proves
a record's bytes is therefore asked of the text, not of what was read from it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from results.errors import NewerSchemaError, RegistryError
from results.record import migrations
from results.record.canonical import canonical_json, leaves, plain_json, to_builtins
from results.record.schema import CHECKSUM_DIGITS, ID_DIGITS, SCHEMA, Record

# What differs between a run that was interrupted and one that never was, and the names derived from it.
_DIFFERS_BETWEEN_SITTINGS = ("id", "checksums", "sittings", "times", "peak_memory_mib")
_CURVE_TIMES = ("images_per_second", "seconds")

FieldProblem = tuple[str, str]


def to_bytes(record: Record) -> bytes:
    """The record's file content: canonical JSON and a newline. Raises RegistryError if a value has the wrong type."""
    return canonical_json(_typed(record)) + b"\n"


def from_bytes(data: bytes, name: str) -> Record:
    """The record in `data`, of this schema or an older one; `name` is what error messages call it.

    That the content agrees with itself is for `results.record.checks` to say, with its name for `seal_problems`.

    Raises:
        RegistryError: naming file and field.
        NewerSchemaError: it was written by a later version.
    """
    content = content_of(data, name)
    try:
        current = migrations.to_current(content)
        record = msgspec.convert(current, Record)
    except msgspec.ValidationError as error:
        raise _schema_error(error, name) from None
    except RegistryError as error:
        raise RegistryError(f"{name}: {error}", error.field) from None
    for field in ("id", "checksums"):  # they have defaults for whoever builds a record, not for files
        if not getattr(record, field):
            raise RegistryError(f"{name}: {field}: missing", field)
    return record


def content_of(data: bytes, name: str) -> dict[str, Any]:
    """The JSON object in `data`, of a schema that is known here. Raises as `from_bytes`."""
    try:
        content: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        field = _field_at(data, str(error))
        raise RegistryError(f"{name}: {field}: not a record: {error}", field) from None
    _check_version(content.get("schema"), name)
    return content


def seal(record: Record) -> Record:
    """The record with its `id` and `checksums` as its content demands."""
    typed = _typed(record)
    texts = _texts(to_builtins(typed))
    return msgspec.structs.replace(typed, id=texts.id(), checksums=texts.checksums())


def record_id(record: Record) -> str:
    """The name that the record's content demands: the first 16 digits of its SHA-256, without `id` and `checksums`."""
    return _texts(to_builtins(_typed(record))).id()


def seal_problems(data: bytes, stem: str, name: str) -> Iterator[FieldProblem]:
    """What was changed after the record in `data` was written to a file called `stem`: which field, else that it was.

    Raises as `content_of`.
    """
    content = content_of(data, name)
    try:
        texts = _texts(content)
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{name}: content: cannot be written as canonical JSON: {error}", "content") from None
    canonical = _object(texts.fields) + b"\n"
    given, checksums = content.get("id"), content.get("checksums")
    checksums = checksums if isinstance(checksums, dict) else {}
    right, content_id = texts.checksums(), texts.id()
    if stem != given:
        yield "id", f"is {given}, the file's name {stem}"
    changed = [field for field in sorted(right.keys() | checksums.keys()) if right.get(field) != checksums.get(field)]
    for field in changed:
        if content_id in (given, stem):  # the content is as it was named: the checksum is what changed
            yield f"checksums.{field}", f"is {checksums.get(field)}, the field's is {right.get(field)}"
        else:
            yield field, "was changed after the record was written: it does not match its checksum"
    if content_id not in (given, stem) and not changed:
        yield "content (hash)", f"has the hash {content_id}, the record's id is {given}"
    if data != canonical:  # it may mean the same, as 1.50 for 1.5: still not the file that was written
        written, own = (dict(leaves(_with_texts(part))) for part in (data, canonical))
        field = next((field for field in own if written.get(field) != own[field]), "content")
        yield field, "is not in canonical form: the bytes are not those that were written"


def comparable(record: Record) -> dict[str, Any]:
    """What a run interrupted and resumed has in common with one that never was: no times, dates, sittings or memory."""
    content: dict[str, Any] = to_builtins(record)
    for field in _DIFFERS_BETWEEN_SITTINGS:
        del content[field]
    for column in _CURVE_TIMES:
        del content["curve"][column]
    return content


class _Texts(NamedTuple):
    """The canonical JSON of a record's fields, and of its curve's columns: made once for text, name and checksums."""

    fields: dict[str, bytes]
    columns: dict[str, bytes]

    def checksums(self) -> dict[str, str]:
        """A short checksum of every top-level field and of every column of the curve.

        The name proves that a record is as it was written; these say which field is not.
        """
        parts = self.fields | {f"curve.{column}": text for column, text in self.columns.items()}
        if self.columns:
            del parts["curve"]
        return {
            field: hashlib.sha256(text).hexdigest()[:CHECKSUM_DIGITS]
            for field, text in sorted(parts.items())
            if field not in ("id", "checksums")
        }

    def id(self) -> str:
        unsealed = {field: text for field, text in self.fields.items() if field not in ("id", "checksums")}
        return hashlib.sha256(_object(unsealed)).hexdigest()[:ID_DIGITS]


def _texts(content: Mapping[str, Any]) -> _Texts:
    """The texts of a plain object. Raises ValueError and RecursionError for what JSON cannot hold."""
    fields = {field: plain_json(value) for field, value in content.items() if field != "curve"}
    curve = content.get("curve")
    columns = {column: plain_json(values) for column, values in curve.items()} if isinstance(curve, dict) else {}
    if "curve" in content:
        fields["curve"] = _object(columns) if columns else plain_json(curve)
    return _Texts(fields, columns)


def _object(texts: Mapping[str, bytes]) -> bytes:
    return b"{%b}" % b",".join(plain_json(key) + b":" + text for key, text in sorted(texts.items()))


def _with_texts(data: bytes) -> Any:
    """JSON with its numbers as they are written."""
    import json

    return json.loads(data, parse_float=str, parse_int=str)


def _typed(record: Record) -> Record:
    """The record with every field of its declared type (whole numbers in float fields become floats)."""
    name = f"record of {record.benchmark}"
    try:
        return msgspec.convert(to_builtins(record), Record)
    except msgspec.ValidationError as error:
        raise _schema_error(error, name) from None
    except ValueError as error:
        raise RegistryError(f"{name}: {error}", str(error).split(":")[0]) from None


def _check_version(version: Any, name: str) -> None:
    if version is None:
        raise RegistryError(f"{name}: schema: missing; a record has its schema version, {SCHEMA} today", "schema")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise RegistryError(f"{name}: schema: expected a whole number from 1 on, got {version!r}", "schema")
    if version > SCHEMA:
        raise NewerSchemaError(
            f"{name}: schema: version {version} is newer than the {SCHEMA} that this checkout reads:"
            " update the checkout (`git pull`)",
            "schema",
        )


def _field_at(data: bytes, message: str) -> str:
    """The key last read before the byte that a decoding error names: "JSON is malformed: ... (byte 812)"."""
    place = re.search(r"\(byte (\d+)\)", message)
    keys = re.findall(rb'"(\w+)":', data[: int(place[1])]) if place else []
    return keys[-1].decode() if keys else "content"


def _schema_error(error: msgspec.ValidationError, name: str) -> RegistryError:
    """msgspec's "Object missing required field `x` - at `$.curve`" as "<name>: curve.x: missing required field"."""
    message, _, place = str(error).partition(" - at ")
    field = re.sub(r"^\$\.?|^key in ", "", place.strip("`"))
    named = re.match(r"Object (missing required|contains unknown) field `(.*)`$", message)
    if named:
        field = f"{field}.{named[2]}" if field else named[2]
        message = "missing" if named[1].startswith("missing") else "unknown field"
    field = field or "content"
    return RegistryError(f"{name}: {field}: {message}", field)
