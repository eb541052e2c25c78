"""Rendered images: sizes, formats, orientation, and pictures that are none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from harness.db.address import DatabaseAddress
from harness.servers.storage.standalone import StandaloneStorage

BAD = "The source image is invalid or unsupported for rendering"


def picture(kind: str, size: tuple[int, int] = (80, 40), **options: Any) -> bytes:
    image = Image.new("RGB", size, (200, 30, 30))
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def shape(answer: Any) -> tuple[str, tuple[int, int]]:
    assert answer.status_code == 200, answer.text
    image = Image.open(io.BytesIO(answer.content))
    return str(image.format), image.size


@pytest.fixture
def red(admin: Any) -> str:
    """Store a picture of 80 by 40; return its path."""
    admin.upload("open/red.jpg", picture("JPEG"), Content_Type="image/jpeg")
    return "open/red.jpg"


@pytest.mark.parametrize(
    ("query", "size", "told"),
    [
        ("width=20&height=20", (20, 20), "height:20,width:20,resizing_type:fill"),
        (
            "width=20&height=20&resize=contain",
            (20, 10),
            "height:20,width:20,resizing_type:fit",
        ),
        (
            "width=20&height=20&resize=fill",
            (20, 20),
            "height:20,width:20,resizing_type:force",
        ),
        ("width=20", (20, 10), "width:20,resizing_type:fill"),
        ("height=20&quality=50", (40, 20), "height:20,resizing_type:fill,quality:50"),
        ("width=800&height=400", (80, 40), "height:400,width:800,resizing_type:fill"),
        ("", (80, 40), ""),
    ],
)
def test_sizes(
    nobody: Any, red: str, query: str, size: tuple[int, int], told: str
) -> None:
    answer = nobody("GET", f"/render/image/public/{red}?{query}")
    assert shape(answer) == ("JPEG", size)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["x-transformations"] == told


def test_formats(nobody: Any, red: str) -> None:
    path = f"/render/image/public/{red}?width=20"
    webp = {"Accept": "image/webp,*/*"}
    assert shape(nobody("GET", path, headers=webp))[0] == "WEBP"
    assert shape(nobody("GET", f"{path}&format=origin", headers=webp))[0] == "JPEG"
    assert shape(nobody("GET", f"{path}&format=webp"))[0] == "WEBP"
    avif = nobody("GET", f"{path}&format=avif")
    assert avif.headers["content-type"] == "image/avif"


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_sources(admin: Any, kind: str) -> None:
    admin.upload("open/x", picture(kind), Content_Type=f"image/{kind.lower()}")
    answer = admin("GET", "/render/image/public/open/x?width=20&height=20")
    assert shape(answer)[1] == (20, 20)


def test_orientation_is_applied(admin: Any) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    turned = picture("JPEG", exif=exif)
    admin.upload("open/turned", turned, Content_Type="image/jpeg")
    answer = admin("GET", "/render/image/public/open/turned")
    assert shape(answer)[1] == (40, 80)


def test_private_and_signed(alice: Any, nobody: Any, admin: Any) -> None:
    admin.upload("docs/red.jpg", picture("JPEG"), Content_Type="image/jpeg")
    path = "/render/image/authenticated/docs/red.jpg"
    assert alice("GET", path).json()["code"] == "NoSuchKey"
    assert shape(admin("GET", f"{path}?width=10"))[1] == (10, 5)
    signed = admin(
        "POST",
        "/object/sign/docs/red.jpg",
        json={
            "expiresIn": 60,
            "transform": {"width": 10, "height": 10, "format": "webp"},
        },
    ).json()["signedURL"]
    assert signed.startswith("/render/image/sign/docs/red.jpg?token=")
    answer = nobody("GET", signed)
    assert shape(answer) == ("WEBP", (10, 10))
    assert "expires" in answer.headers
    original = nobody("GET", signed.replace("/render/image/", "/object/"))
    assert original.content == picture("JPEG")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("width=x", "querystring/width must be integer"),
        ("width=-1", "querystring/width must be >= 0"),
        ("quality=19", "querystring/quality must be >= 20"),
        ("resize=stretch", "must be equal to one of the allowed values"),
    ],
)
def test_queries_that_are_refused(
    nobody: Any, red: str, query: str, message: str
) -> None:
    answer = nobody("GET", f"/render/image/public/{red}?{query}")
    assert message in answer.json()["message"]


@pytest.mark.parametrize(
    "body",
    [b"", b"no picture", picture("JPEG")[:200], b"<svg/>", b"GIF89a" + b"\0" * 9],
)
def test_sources_that_are_no_pictures(admin: Any, body: bytes) -> None:
    admin.upload("open/bad", body, Content_Type="image/png")
    answer = admin("GET", "/render/image/public/open/bad?width=10")
    assert (answer.status_code, answer.json()["message"]) == (400, BAD)


def test_pictures_that_unpack_to_too_much(admin: Any) -> None:
    bomb = Image.new("1", (10_000, 10_000))
    target = io.BytesIO()
    bomb.save(target, "PNG")
    admin.upload("open/bomb", target.getvalue(), Content_Type="image/png")
    answer = admin("GET", "/render/image/public/open/bomb?width=10")
    assert (answer.status_code, answer.json()["message"]) == (400, BAD)


def test_rendering_that_is_switched_off(
    database: DatabaseAddress, tmp_path: Path
) -> None:
    settings = {"image_transformation_enabled": False}
    with (
        StandaloneStorage(database, tmp_path, settings) as storage,
        httpx.Client(
            base_url=storage.url,
            headers={"Authorization": f"Bearer {storage.service_key}"},
        ) as client,
    ):
        client.post("/bucket", json={"name": "open", "public": True})
        body = picture("JPEG")
        client.post("/object/open/red.jpg", content=body).raise_for_status()
        for kind in ("public", "authenticated", "sign"):
            answer = client.get(f"/render/image/{kind}/open/red.jpg?width=20")
            assert answer.status_code == 404
            assert answer.json()["message"].startswith("Route GET:/render/image/")
        asked = {"expiresIn": 60, "transform": {"width": 20}}
        signed = client.post("/object/sign/open/red.jpg", json=asked).json()
        assert client.get(signed["signedURL"]).content == body
