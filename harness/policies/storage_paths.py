"""Names of stored objects, in the folders that a project's policies expect."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.db.catalog import Bucket, Name
from harness.policies.comparisons import Claim, Col, Const, Uid
from harness.policies.mining import FolderUse, Mined
from harness.policies.personas import User
from harness.policies.values import Values, pattern_example

__all__ = [
    "OBJECTS",
    "PathMaker",
    "bucket_folders",
    "linked_object_rows",
    "object_rows",
]

OBJECTS = Name("storage", "objects")
EXTENSIONS: Mapping[str, str] = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "audio/mpeg": "mp3",
    "application/pdf": "pdf",
}

Lookup = Callable[[Col, User], str | None]


def bucket_folders(
    bucket: str, uses: Sequence[FolderUse], table: Name = OBJECTS, column: str = "name"
) -> dict[int, tuple[FolderUse, ...]]:
    """Return what policies expect of each folder (from 1) of names in ``bucket``."""
    folders: dict[int, list[FolderUse]] = {}
    for use in uses:
        here = use.table == table and use.column == column
        if here and (not use.buckets or bucket in use.buckets):
            folders.setdefault(use.index, []).append(use)
    return {index: tuple(found) for index, found in sorted(folders.items())}


@dataclass
class PathMaker:
    """Makes the paths that a user would use.

    ``lookup`` returns a value of a column from a row of the user's own.
    """

    mined: Mined
    lookup: Lookup

    def object_name(self, user: User, bucket: str, file: str) -> str:
        """Return the name that ``user`` would give ``file`` in ``bucket``."""
        folders = bucket_folders(bucket, self.mined.folders)
        depth = self._depth(bucket, folders)
        patterns = [
            u.term for u in folders.get(depth + 1, ()) if isinstance(u.term, Const)
        ]
        if patterns and (shaped := pattern_example(patterns[0].values[0])):
            file = shaped
        parts = [self._folder(user, folders.get(i, ())) for i in range(1, depth + 1)]
        return "/".join([*parts, file])

    def column_path(self, user: User, table: Name, column: str, file: str) -> str:
        """Return a path for a column of a table that policies take apart."""
        folders = bucket_folders("", self.mined.folders, table, column)
        named = [u for use in folders.values() for u in use]
        if not named and not self._names_objects(Col(table, column)):
            return file
        depth = max(folders, default=1)
        parts = [self._folder(user, folders.get(i, ())) for i in range(1, depth + 1)]
        return "/".join([*parts, file])

    def is_path(self, col: Col) -> bool:
        """Say whether policies read a path out of a column."""
        taken_apart = any(
            u.table == col.table and u.column == col.column for u in self.mined.folders
        )
        return taken_apart or self._names_objects(col)

    def _names_objects(self, col: Col) -> bool:
        return (Col(OBJECTS, "name"), col) in self.mined.equal_columns or (
            col,
            Col(OBJECTS, "name"),
        ) in self.mined.equal_columns

    def _depth(self, bucket: str, folders: Mapping[int, object]) -> int:
        for buckets, depth in self.mined.depths:
            if not buckets or bucket in buckets:
                return depth
        return max(folders, default=0)

    def _folder(self, user: User, uses: Sequence[FolderUse]) -> str:
        for use in uses:
            if use.operator != "=":
                continue
            if isinstance(use.term, Const):
                return use.term.values[0]
            if isinstance(use.term, Col):
                found = self.lookup(use.term, user)
                if found:
                    return found
            if isinstance(use.term, Claim):
                # The tenant of the token: the rows that it is compared with say it.
                for col in sorted(self.mined.claim_columns[use.term.path], key=str):
                    if found := self.lookup(col, user):
                        return found
            if isinstance(use.term, Uid):
                return user.id
        return user.id


def object_rows(
    users: Sequence[User], buckets: Sequence[Bucket], maker: PathMaker, values: Values
) -> Iterator[tuple[User, Mapping[str, str | None]]]:
    """Yield an object a user and bucket, as the Storage API would have stored it."""
    for user in users:
        for bucket in buckets:
            values.drawn += 1
            mime = mime_type(bucket)
            file = f"file{values.drawn}.{EXTENSIONS.get(mime, 'txt')}"
            name = maker.object_name(user, bucket.id, file)
            yield user, object_values(user, bucket, name, values)


def linked_object_rows(
    user: User, names: Sequence[str], buckets: Sequence[Bucket], values: Values
) -> Iterator[Mapping[str, str | None]]:
    """Yield objects whose names stand in rows of other tables."""
    for name in names:
        for bucket in buckets:
            yield object_values(user, bucket, name, values)


def mime_type(bucket: Bucket) -> str:
    """Return a type that the bucket accepts."""
    mime = (bucket.allowed_mime_types or ("text/plain",))[0]
    return mime.replace("/*", "/png")


def object_values(
    user: User, bucket: Bucket, name: str, values: Values
) -> Mapping[str, str | None]:
    """Return the row that an upload by ``user`` leaves."""
    values.drawn += 1
    size = 700_000 + values.drawn
    metadata = {"mimetype": mime_type(bucket), "size": size, "contentLength": size}
    return {
        "id": values.uuid(),
        "bucket_id": bucket.id,
        "name": name,
        "owner": user.id,
        "owner_id": user.id,
        "version": values.uuid(),
        "metadata": json.dumps(metadata),
    }
