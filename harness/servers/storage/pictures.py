"""The pixels: decode, turn, resize, encode, with Pillow.

Nothing is enlarged, orientation is applied, metadata is dropped.
"""

from __future__ import annotations

import io
from typing import Final

from PIL import Image, ImageOps, UnidentifiedImageError

from harness.servers.storage.transforms import Transform

__all__ = ["render"]

FORMATS: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WEBP": "image/webp",
    "AVIF": "image/avif",
    "BMP": "image/png",
    "TIFF": "image/jpeg",
    "ICO": "image/png",
}


def render(
    source: bytes, transform: Transform, max_pixels: int, *, accepts_webp: bool
) -> tuple[str, bytes]:
    """Return (mime type, bytes) of the picture; ValueError for what is none."""
    try:
        with Image.open(io.BytesIO(source)) as image:
            if image.width * image.height > max_pixels:
                raise ValueError("the picture has too many pixels")
            kind = _target_format(image.format or "", transform, accepts_webp)
            turned = ImageOps.exif_transpose(image)
            return FORMATS[kind], _encode(_resize(turned, transform), kind, transform)
    except (
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
        OSError,
        SyntaxError,
        KeyError,
    ) as exc:
        # Pillow's decoders raise any of these on broken pictures.
        raise ValueError("not a picture") from exc


def _target_format(source: str, transform: Transform, accepts_webp: bool) -> str:
    if source not in FORMATS:
        raise ValueError(f"no such source format: {source}")
    if transform.format in ("avif", "webp"):
        return transform.format.upper()
    if transform.format != "origin" and accepts_webp:
        return "WEBP"
    return FORMATS[source].removeprefix("image/").upper()


def _resize(image: Image.Image, transform: Transform) -> Image.Image:
    width, height = transform.width, transform.height
    if not width and not height:
        return image
    ratio = image.width / image.height
    width = min(width or round(height * ratio), image.width) or 1
    height = min(height or round(width / ratio), image.height) or 1
    if image.mode in ("P", "1"):
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    if transform.resize == "contain":
        return ImageOps.contain(image, (width, height), Image.Resampling.LANCZOS)
    if transform.resize == "fill":
        return image.resize((width, height), Image.Resampling.LANCZOS)
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def _encode(image: Image.Image, kind: str, transform: Transform) -> bytes:
    target = io.BytesIO()
    if kind == "JPEG":
        if image.mode not in ("RGB", "L", "CMYK"):
            image = image.convert("RGB")
        image.save(target, kind, quality=transform.quality, optimize=True)
    elif kind in ("WEBP", "AVIF"):
        if image.mode not in ("RGB", "RGBA", "L"):
            image = image.convert("RGBA")
        image.save(target, kind, quality=transform.quality)
    else:
        image.save(target, kind)
    return target.getvalue()
