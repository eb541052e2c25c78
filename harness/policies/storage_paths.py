"""Names of stored objects, in the folders that a project's policies expect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from harness.db.catalog import Bucket, Name
from harness.policies.comparisons import Col, Const, Uid
from harness.policies.mining import FolderUse
from harness.policies.personas import User
from harness.policies.values import Values

__all__ = ["OBJECTS", "bucket_folders", "object_name", "object_rows"]

OBJECTS = Name("storage", "objects")
EXTENSIONS: Mapping[str, str] = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "audio/mpeg": "mp3",
    "application/pdf": "pdf",
}

Lookup = Callable[[Name, str, str], str | None]


def bucket_folders(
    bucket: str, uses: Sequence[FolderUse]
) -> dict[int, tuple[FolderUse, ...]]:
    """Return what policies expect of each folder (from 1) of names in ``bucket``."""
    folders: dict[int, list[FolderUse]] = {}
    for use in uses:
        if use.index > 0 and (not use.buckets or bucket in use.buckets):
            folders.setdefault(use.index, []).append(use)
    return {index: tuple(found) for index, found in sorted(folders.items())}


def object_name(
    user: User,
    bucket: Bucket,
    uses: Sequence[FolderUse],
    file: str,
    lookup: Lookup,
) -> str:
    """Return the name that ``user`` would give ``file`` in ``bucket``."""
    folders = bucket_folders(bucket.id, uses)
    parts = [
        _folder(user, folders.get(index, ()), lookup)
        for index in range(1, max(folders, default=0) + 1)
    ]
    return "/".join([*parts, file])


def _folder(user: User, uses: Sequence[FolderUse], lookup: Lookup) -> str:
    for use in uses:
        if isinstance(use.term, Const):
            return use.term.values[0]
        if isinstance(use.term, Col):
            found = lookup(use.term.table, use.term.column, user.clan)
            if found:
                return found
        if isinstance(use.term, Uid):
            return user.id
    return user.id


def object_rows(
    users: Sequence[User],
    buckets: Sequence[Bucket],
    uses: Sequence[FolderUse],
    values: Values,
    lookup: Lookup,
) -> Iterator[tuple[User, Mapping[str, str | None]]]:
    """Yield an object a user and bucket, as the Storage API would have stored it."""
    for user in users:
        for bucket in buckets:
            values.drawn += 1
            mime = (bucket.allowed_mime_types or ("text/plain",))[0]
            file = f"file{values.drawn}.{EXTENSIONS.get(mime, 'txt')}"
            yield (
                user,
                object_values(
                    user,
                    bucket.id,
                    object_name(user, bucket, uses, file, lookup),
                    mime,
                    700_000 + values.drawn,
                    values,
                ),
            )


def object_values(
    user: User, bucket: str, name: str, mime: str, size: int, values: Values
) -> Mapping[str, str | None]:
    """Return the row that an upload by ``user`` leaves."""
    metadata = {"mimetype": mime, "size": size, "contentLength": size}
    return {
        "id": values.uuid(),
        "bucket_id": bucket,
        "name": name,
        "owner": user.id,
        "owner_id": user.id,
        "version": values.uuid(),
        "metadata": json.dumps(metadata),
    }
