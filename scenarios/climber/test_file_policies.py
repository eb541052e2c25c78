"""Who may do what with files: people and folders against each command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import quote

import allure
import asyncpg
import pytest

from harness.stack.project import Project
from scenarios.browsing import browser
from scenarios.climber.cast import Cast, LibraryOf
from scenarios.climber.media import Bucket, FileRefusedError, Refusal
from scenarios.fixtures import Sql, become

pytestmark = allure.feature("climber: file policies")

Put = Callable[..., Awaitable[None]]

PNG = "image/png"
MP4 = "video/mp4"


@pytest.fixture
async def put(people: Cast, library_of: LibraryOf) -> Put:
    """Return a function that stores a file as the service."""
    service = await library_of(people.service)

    async def store(
        bucket: Bucket, path: str, content: bytes = b"content", content_type: str = PNG
    ) -> None:
        await service.store(bucket, path, content, content_type)

    return store


async def refusal(awaitable: Awaitable[object]) -> Refusal:
    """Return why an operation was refused."""
    with pytest.raises(FileRefusedError) as refused:
        await awaitable
    return refused.value.reason


@pytest.mark.requirement("CL-06")
async def test_an_avatar_is_listed_and_read_by_its_owner_only(
    people: Cast, library_of: LibraryOf, put: Put, sql: Sql
) -> None:
    path = f"{people.ben.id}/face.png"
    await put(Bucket.AVATARS, path)
    ben, ana = await library_of(people.ben), await library_of(people.ana)
    assert await ben.fetch(Bucket.AVATARS, path) == b"content"
    assert [f.name for f in await ben.files(Bucket.AVATARS, people.ben.id)] == [
        "face.png"
    ]
    assert await ana.files(Bucket.AVATARS, people.ben.id) == []
    # The bucket is public by URL; what needs a permission is the owner's alone.
    assert await refusal(ana.link(Bucket.AVATARS, path)) is Refusal.NOT_FOUND
    assert "token=" in await ben.link(Bucket.AVATARS, path)
    for who, visible in ((people.ana, 0), (people.ben, 1)):
        async with sql.transaction():
            await become(sql, who)
            seen = await sql.fetchval("select count(*) from storage.objects")
        assert seen == visible


@pytest.mark.requirement("CL-07", "CL-33")
@pytest.mark.parametrize(
    ("path", "accepted"),
    [
        ("{own}/face.png", True),
        ("{own}/drafts/face.png", True),
        ("{own}/a b!.png", True),
        ("face.png", False),
        ("{own}", False),
        ("{other}/face.png", False),
        ("avatars/{own}/face.png", False),
        ("/{own}/face.png", False),
        ("{OWN}/face.png", False),
        ("{own}/../{other}/face.png", False),
        ("{own}/./face.png", False),
        ("{own}//face.png", False),
        ("{own}/", False),
        ("{own}/..", False),
    ],
)
async def test_an_avatar_goes_into_the_own_folder_or_nowhere(
    path: str, accepted: bool, people: Cast, project: Project, sql: Sql
) -> None:
    name = path.format(
        own=people.ana.id, OWN=people.ana.id.upper(), other=people.ben.id
    )
    # Percent-encoded dots survive every client library that normalises paths.
    encoded = quote(name).replace("..", "%2e%2e").replace("/./", "/%2e/")
    async with browser() as http:
        answer = await http.post(
            f"{project.url}/storage/v1/object/user-avatars/{encoded}",
            content=b"face",
            headers={
                "Authorization": f"Bearer {people.ana.token}",
                "Content-Type": PNG,
            },
        )
    stored = await sql.fetchval("select array_agg(name) from storage.objects")
    assert (answer.status_code == 200) is accepted, answer.text
    assert stored == ([name] if accepted else None)


@pytest.mark.requirement("CL-07", "CL-33")
@pytest.mark.parametrize(
    "name", [None, "", "{own}/../{other}/x", "{own}//x", "{own}/."]
)
async def test_no_role_writes_an_unsafe_name_into_the_table(
    name: str | None, people: Cast, project: Project
) -> None:
    path = name and name.format(own=people.ana.id, other=people.ben.id)
    connection = await project.connect("postgres")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="refused"):
            await connection.execute(
                "insert into storage.objects (bucket_id, name)"
                " values ('user-avatars', $1)",
                path,
            )
    finally:
        await connection.close()


@pytest.mark.requirement("CL-08")
async def test_an_avatar_is_replaced_by_its_owner_only(
    people: Cast, library_of: LibraryOf
) -> None:
    ana, ben = await library_of(people.ana), await library_of(people.ben)
    path = ana.path("face.png")
    await ana.store(Bucket.AVATARS, path, b"old", PNG)
    await ana.store(Bucket.AVATARS, path, b"new", PNG, replace=True)
    assert await ana.fetch(Bucket.AVATARS, path) == b"new"
    assert (
        await refusal(ben.store(Bucket.AVATARS, path, b"evil", PNG, replace=True))
        is Refusal.FORBIDDEN
    )
    assert (
        await refusal(ana.rename(Bucket.AVATARS, path, ben.path("face.png")))
        is Refusal.FORBIDDEN
    )
    assert await ana.fetch(Bucket.AVATARS, path) == b"new"


@pytest.mark.requirement("CL-08", "CL-41")
async def test_an_update_without_a_condition_changes_own_files_only(
    people: Cast, library_of: LibraryOf, project: Project, sql: Sql
) -> None:
    ana, ben = await library_of(people.ana), await library_of(people.ben)
    await ana.store(Bucket.AVATARS, ana.path("a.png"), b"a", PNG)
    await ben.store(Bucket.AVATARS, ben.path("b.png"), b"b", PNG)
    connection = await project.connect()
    try:
        async with connection.transaction():
            await become(connection, people.ana)
            changed = await connection.execute(
                "update storage.objects set last_accessed_at = null"
            )
    finally:
        await connection.close()
    assert changed == "UPDATE 1"
    untouched = await sql.fetchval(
        "select name from storage.objects where last_accessed_at is not null"
    )
    assert untouched == ben.path("b.png")


@pytest.mark.requirement("CL-08", "CL-11", "CL-14")
async def test_nobody_moves_a_file_into_another_bucket(
    people: Cast, library_of: LibraryOf, project: Project
) -> None:
    premium = await library_of(people.premium)
    path = premium.path("not-a-video.png")
    await premium.store(Bucket.AVATARS, path, b"picture", PNG)
    async with browser() as http:
        answer = await http.post(
            f"{project.url}/storage/v1/object/move",
            json={
                "bucketId": "user-avatars",
                "sourceKey": path,
                "destinationBucket": "training-videos",
                "destinationKey": path,
            },
            headers={"Authorization": f"Bearer {people.premium.token}"},
        )
    assert answer.status_code == 400
    assert answer.json()["statusCode"] in ("403", "415")
    assert await premium.fetch(Bucket.AVATARS, path) == b"picture"


@pytest.mark.requirement("CL-08")
@pytest.mark.parametrize(
    "change",
    [
        "owner_id = '00000000-0000-4000-8000-000000000000'",
        "owner = '00000000-0000-4000-8000-000000000000'",
        "metadata = '{}'",
        "id = gen_random_uuid()",
        "created_at = now() - interval '1 year'",
        "bucket_id = 'training-videos'",
    ],
)
async def test_the_owner_cannot_rewrite_what_the_service_recorded(
    change: str, people: Cast, library_of: LibraryOf, project: Project
) -> None:
    ana = await library_of(people.ana)
    await ana.store(Bucket.AVATARS, ana.path("a.png"), b"a", PNG)
    connection = await project.connect()
    try:
        async with connection.transaction():
            await become(connection, people.ana)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"update storage.objects set {change}")
    finally:
        await connection.close()


@pytest.mark.requirement("CL-09")
async def test_an_avatar_is_deleted_by_its_owner_only(
    people: Cast, library_of: LibraryOf, sql: Sql
) -> None:
    ana, ben = await library_of(people.ana), await library_of(people.ben)
    path = ana.path("face.png")
    await ana.store(Bucket.AVATARS, path, b"face", PNG)
    assert await ben.remove(Bucket.AVATARS, path) == []
    assert await ana.remove(Bucket.AVATARS, path) == [path]
    assert await sql.fetchval("select count(*) from storage.objects") == 0
    assert await refusal(ana.fetch(Bucket.AVATARS, path)) is Refusal.NOT_FOUND


@pytest.mark.requirement("CL-10")
@pytest.mark.parametrize(
    ("viewer", "sees"),
    [("anon", False), ("ana", True), ("guest", True), ("premium", True)],
)
async def test_training_videos_are_for_everybody_signed_in(
    viewer: str, sees: bool, people: Cast, library_of: LibraryOf, put: Put
) -> None:
    path = f"{people.premium.id}/climb.mp4"
    await put(Bucket.VIDEOS, path, content_type=MP4)
    library = await library_of(people.named(viewer))
    listed = await library.files(Bucket.VIDEOS, people.premium.id)
    assert [f.name for f in listed] == (["climb.mp4"] if sees else [])
    if sees:
        assert await library.fetch(Bucket.VIDEOS, path) == b"content"
    else:
        assert await refusal(library.fetch(Bucket.VIDEOS, path)) is Refusal.NOT_FOUND


@pytest.mark.requirement("CL-11")
@pytest.mark.parametrize("folder", ["own", "other"])
@pytest.mark.parametrize("uploader", ["anon", "ana", "guest", "premium", "admin"])
async def test_only_premium_users_upload_videos_and_only_into_their_folder(
    uploader: str, folder: str, people: Cast, library_of: LibraryOf
) -> None:
    who = people.named(uploader)
    library = await library_of(who)
    owner = (who.id or "nobody") if folder == "own" else people.ben.id
    store = library.store(Bucket.VIDEOS, f"{owner}/v.mp4", b"video", MP4)
    if (uploader, folder) == ("premium", "own"):
        await store
    else:
        assert await refusal(store) is Refusal.FORBIDDEN


@pytest.mark.requirement("CL-12")
async def test_a_video_is_changed_and_deleted_by_its_owner_only(
    people: Cast, library_of: LibraryOf
) -> None:
    owner, rival = await library_of(people.premium), await library_of(people.rival)
    path = owner.path("climb.mp4")
    await owner.store(Bucket.VIDEOS, path, b"first", MP4)
    await owner.store(Bucket.VIDEOS, path, b"second", MP4, replace=True)
    replace = rival.store(Bucket.VIDEOS, path, b"evil", MP4, replace=True)
    assert await refusal(replace) is Refusal.FORBIDDEN
    rename = rival.rename(Bucket.VIDEOS, path, rival.path("mine.mp4"))
    assert await refusal(rename) in (Refusal.FORBIDDEN, Refusal.NOT_FOUND)
    assert await rival.remove(Bucket.VIDEOS, path) == []
    assert await owner.fetch(Bucket.VIDEOS, path) == b"second"
    assert await owner.remove(Bucket.VIDEOS, path) == [path]


@pytest.mark.requirement("CL-12")
async def test_a_downgraded_owner_may_delete_but_not_replace(
    people: Cast, library_of: LibraryOf, sql: Sql
) -> None:
    owner = await library_of(people.premium)
    path = owner.path("climb.mp4")
    await owner.store(Bucket.VIDEOS, path, b"first", MP4)
    await sql.execute("delete from public.user_roles where role = 'premium_user'")
    replace = owner.store(Bucket.VIDEOS, path, b"second", MP4, replace=True)
    assert await refusal(replace) is Refusal.FORBIDDEN
    assert await owner.fetch(Bucket.VIDEOS, path) == b"first"
    assert await owner.remove(Bucket.VIDEOS, path) == [path]


@pytest.mark.requirement("CL-13", "CL-15")
@pytest.mark.parametrize("bucket", [Bucket.MOUNTAINS, Bucket.ASSETS])
@pytest.mark.parametrize("viewer", ["anon", "ana", "admin"])
async def test_mountains_and_assets_are_for_everybody(
    viewer: str, bucket: Bucket, people: Cast, library_of: LibraryOf, put: Put
) -> None:
    await put(bucket, "alps/eiger.png")
    library = await library_of(people.named(viewer))
    assert [f.name for f in await library.files(bucket, "alps")] == ["eiger.png"]
    assert await library.fetch(bucket, "alps/eiger.png") == b"content"


@pytest.mark.requirement("CL-14", "CL-15")
@pytest.mark.parametrize("bucket", [Bucket.MOUNTAINS, Bucket.ASSETS])
async def test_administrators_manage_mountains_and_assets(
    bucket: Bucket, people: Cast, library_of: LibraryOf
) -> None:
    admin = await library_of(people.admin)
    await admin.store(bucket, "a.png", b"one", PNG)
    await admin.store(bucket, "a.png", b"two", PNG, replace=True)
    await admin.rename(bucket, "a.png", "b.png")
    assert await admin.fetch(bucket, "b.png") == b"two"
    assert await admin.remove(bucket, "b.png") == ["b.png"]


@pytest.mark.requirement("CL-14", "CL-15")
@pytest.mark.parametrize("bucket", [Bucket.MOUNTAINS, Bucket.ASSETS])
@pytest.mark.parametrize("who", ["anon", "ana", "premium"])
async def test_nobody_else_changes_mountains_and_assets(
    who: str, bucket: Bucket, people: Cast, library_of: LibraryOf, put: Put
) -> None:
    await put(bucket, "a.png", b"original")
    library = await library_of(people.named(who))
    store = library.store(bucket, "b.png", b"evil", PNG)
    assert await refusal(store) is Refusal.FORBIDDEN
    replace = library.store(bucket, "a.png", b"evil", PNG, replace=True)
    assert await refusal(replace) is Refusal.FORBIDDEN
    rename = library.rename(bucket, "a.png", "b.png")
    assert await refusal(rename) in (Refusal.FORBIDDEN, Refusal.NOT_FOUND)
    duplicate = library.duplicate(bucket, "a.png", "b.png")
    assert await refusal(duplicate) is Refusal.FORBIDDEN
    assert await library.remove(bucket, "a.png") == []
    assert await library.fetch(bucket, "a.png") == b"original"
