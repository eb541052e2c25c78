"""Container images of the own stack, built from ``compose/`` and tagged by content.

An image whose tag exists is not built again; of those built before, a few stay and the
older ones go.  The bases are settings: the public ones by default, local ones where no
image registry is in reach (``compose/base`` makes them from Debian packages).
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

import docker
from docker.errors import APIError, BuildError, DockerException, ImageNotFound

from harness.config import Config
from harness.db.cluster import ClusterOptions, server_settings
from harness.errors import ContainerError
from harness.resources import PACKAGE, compose_root

if TYPE_CHECKING:
    from docker import DockerClient

__all__ = [
    "IMAGE_LABEL",
    "KEPT_IMAGES",
    "Images",
    "build_images",
    "connect_docker",
    "postgres_settings",
    "remove_older_images",
]

TAG_LENGTH = 12
IMAGE_LABEL = "supabase-harness.image"  # marks what may be removed as ours
KEPT_IMAGES = 3  # of each name: those of a few branches, not of a year of commits
LOG_LINES = 15
BASES_HINT = (
    "without an image registry, make the bases as compose/README.md shows and set "
    "HARNESS_CONTAINER_POSTGRES_BASE and HARNESS_CONTAINER_PYTHON_BASE"
)
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", "_files")


class Images:
    """The tags of the two images that the own stack runs on."""

    def __init__(self, postgres: str, server: str) -> None:
        self.postgres = postgres
        self.server = server


def connect_docker() -> DockerClient:
    """Return a client of the Docker daemon; raises :class:`ContainerError`."""
    try:
        client = docker.from_env()
        client.ping()
    except (DockerException, OSError) as exc:
        reason = "may not be used" if "ermission" in str(exc) else "does not answer"
        raise ContainerError(
            f"the Docker daemon {reason}",
            service="docker",
            hint="start it, or join the group that may use it; "
            "--stack embedded needs no Docker",
        ) from exc
    return client


def build_images(
    client: DockerClient, config: Config, say: Callable[[str], None]
) -> Images:
    """Build what is missing and return the tags; ``say`` tells of slow steps."""
    with tempfile.TemporaryDirectory(prefix="harness-images-") as work:
        folder = Path(work)
        postgres = _context(folder / "postgres", _fill_postgres)
        server = _context(
            folder / "server", lambda f: _fill_server(f, config.container_wheels)
        )
        return Images(
            postgres=_build(
                client,
                "harness-postgres",
                postgres,
                {
                    "PG_BASE": config.container_postgres_base,
                    "PG_BIN": config.container_postgres_bin,
                },
                say,
            ),
            server=_build(
                client,
                "harness-server",
                server,
                {"BASE_IMAGE": config.container_python_base},
                say,
            ),
        )


def remove_older_images(client: DockerClient, name: str, built: str) -> None:
    """Keep the newest images of a name and the tag ``built``; those in use stay."""
    ours = client.images.list(filters={"label": f"{IMAGE_LABEL}={name}"})
    others = [image for image in ours if built not in image.tags]
    others.sort(key=lambda image: str(image.attrs["Created"]), reverse=True)
    for image in others[KEPT_IMAGES - 1 :]:
        try:
            client.images.remove(image.id)
        except ImageNotFound:
            continue  # another run removed it
        except APIError as exc:
            if exc.status_code != HTTPStatus.CONFLICT:  # a container runs on it
                raise


def postgres_settings() -> str:
    """Return ``postgresql.conf`` of the container: the embedded one, on the network."""
    settings = server_settings(ClusterOptions())
    settings["listen_addresses"] = "*"
    return "".join(
        f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n"
        for name, value in settings.items()
    )


def _context(folder: Path, fill: Callable[[Path], None]) -> Path:
    folder.mkdir()
    fill(folder)
    return folder


def _fill_postgres(folder: Path) -> None:
    source = compose_root() / "postgres"
    for name in ("Dockerfile", "pg_hba.conf", "password"):
        shutil.copy(source / name, folder / name)
    (folder / "postgresql.conf").write_text(postgres_settings(), encoding="utf-8")


def _fill_server(folder: Path, wheels: Path | None) -> None:
    source = compose_root() / "server"
    for name in ("Dockerfile", "requirements.txt"):
        shutil.copy(source / name, folder / name)
    shutil.copytree(PACKAGE, folder / "harness", ignore=IGNORED)
    (folder / "wheels").mkdir()
    (folder / "wheels" / ".gitkeep").touch()
    for wheel in sorted(wheels.glob("*.whl")) if wheels else []:
        shutil.copy(wheel, folder / "wheels")


def _build(
    client: DockerClient,
    name: str,
    context: Path,
    arguments: Mapping[str, str],
    say: Callable[[str], None],
) -> str:
    tag = f"{name}:{_digest(context, arguments)}"
    try:
        client.images.get(tag)
    except ImageNotFound:
        say(f"building image {tag}")
        _build_anew(client, tag, context, arguments)
        remove_older_images(client, name, tag)
    return tag


def _build_anew(
    client: DockerClient, tag: str, context: Path, arguments: Mapping[str, str]
) -> None:
    try:
        client.images.build(
            path=str(context),
            tag=tag,
            buildargs=dict(arguments),
            labels={IMAGE_LABEL: tag.partition(":")[0]},
            rm=True,
        )
    except BuildError as exc:
        lines = [str(part.get("stream", "")).rstrip() for part in exc.build_log]
        raise ContainerError(
            f"image {tag} was not built: {exc.msg}",
            service="docker",
            log_tail="\n".join(line for line in lines[-LOG_LINES:] if line),
            hint=BASES_HINT,
        ) from exc
    except APIError as exc:
        raise ContainerError(
            f"image {tag} was not built: {exc.explanation or exc}",
            service="docker",
            hint=BASES_HINT,
        ) from exc


def _digest(context: Path, arguments: Mapping[str, str]) -> str:
    seen = hashlib.sha256(repr(sorted(arguments.items())).encode())
    for path in _files(context):
        seen.update(str(path.relative_to(context)).encode() + b"\0")
        seen.update(path.read_bytes())
    return seen.hexdigest()[:TAG_LENGTH]


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
