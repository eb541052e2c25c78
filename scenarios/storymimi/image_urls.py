"""Public URLs of scene images: made from any base URL, and checked before use."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

__all__ = ["BUCKET", "ForeignUrlError", "path_of", "public_url"]

BUCKET = "story-images"
PUBLIC = "/storage/v1/object/public/"


class ForeignUrlError(ValueError):
    """A URL that is not one of our images."""


def public_url(supabase_url: str, path: str) -> str:
    """Return the URL of an image; ``supabase_url`` may end in slashes."""
    return f"{supabase_url.rstrip('/')}{PUBLIC}{BUCKET}/{quote(path)}"


def path_of(supabase_url: str, url: str) -> str:
    """Return the path of an image in the bucket.

    Raises :class:`ForeignUrlError` for a URL of another host, scheme or bucket, so that
    nobody makes the application fetch an address of their choice.
    """
    ours, theirs = urlsplit(supabase_url), urlsplit(url)
    if (theirs.scheme, theirs.netloc) != (ours.scheme, ours.netloc):
        raise ForeignUrlError(f"not an image of ours: {url!r}")
    prefix = f"{ours.path.rstrip('/')}{PUBLIC}{BUCKET}/"
    path = unquote(theirs.path.removeprefix(prefix))
    if not theirs.path.startswith(prefix) or theirs.query or theirs.fragment:
        raise ForeignUrlError(f"not an image of ours: {url!r}")
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise ForeignUrlError(f"not an image of ours: {url!r}")
    return path
