"""One contract over both storages."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import allure
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scenarios.browsing import browser
from scenarios.keepintouch.file_names import (
    ForeignFileError,
    StoredFile,
    new_file,
    safe_name,
)
from scenarios.keepintouch.local_storage_service import LocalStorageService
from scenarios.keepintouch.storage_service import (
    DuplicateUserError,
    StorageService,
    UnknownUserError,
)
from scenarios.keepintouch.supabase_storage_service import SupabaseStorageService

pytestmark = allure.feature("keepintouch: contract")

NewUser = Callable[[StorageService], Awaitable[str]]
NOBODY = str(uuid.UUID(int=0))
KEY = re.compile(r"[A-Za-z0-9_/!.*'() &$=@;:+,?-]+")


@pytest.mark.requirement("KT-01")
def test_the_contract_itself_cannot_be_made() -> None:
    make: Any = StorageService
    with pytest.raises(TypeError, match="abstract"):
        make()


@pytest.mark.requirement("KT-01", "KT-19", "KT-11")
def test_both_implementations_can_be_made_by_hand(
    local: LocalStorageService, supabase: SupabaseStorageService
) -> None:
    assert isinstance(local, StorageService)
    assert isinstance(supabase, StorageService)
    assert (local.backend, supabase.backend) == ("local", "supabase")
    assert supabase.storage_bucket == "user-documents"


@pytest.mark.requirement("KT-02", "KT-01")
async def test_users_are_created_read_and_updated(storage: StorageService) -> None:
    email = f"{uuid.uuid4().hex}@example.test"
    made = await storage.create_user({"email": email, "name": "Kim"})
    found = await storage.get_user(made["id"])
    assert found is not None
    assert (found["email"], found["name"]) == (email, "Kim")
    assert await storage.update_user(made["id"], {"name": "Kim Lee"}) is True
    changed = await storage.get_user(made["id"])
    assert changed is not None
    assert (changed["name"], changed["id"]) == ("Kim Lee", made["id"])
    assert changed["updated_at"] > found["updated_at"]


@pytest.mark.requirement("KT-02")
async def test_unknown_users_are_none_and_false(storage: StorageService) -> None:
    assert await storage.get_user(NOBODY) is None
    assert await storage.update_user(NOBODY, {"name": "Kim"}) is False


@pytest.mark.requirement("KT-02")
async def test_a_user_exists_once(storage: StorageService) -> None:
    user = {"id": str(uuid.uuid4()), "email": "kim@example.test", "name": "Kim"}
    made = await storage.create_user(user)
    assert made["id"] == user["id"]
    for twice in (user, {**user, "id": str(uuid.uuid4())}):
        with pytest.raises(DuplicateUserError):
            await storage.create_user(twice)


@pytest.mark.requirement("KT-03")
async def test_a_session_keeps_what_is_merged_into_it(
    storage: StorageService, new_user: NewUser
) -> None:
    user = await new_user(storage)
    session = await storage.create_onboarding_session(user)
    assert await storage.update_onboarding_session(session, {"step": 1, "a": 1}) is True
    assert await storage.update_onboarding_session(session, {"step": 2}) is True
    row = await storage.get_onboarding_session(session)
    assert row is not None
    assert (row["data"], row["user_id"]) == ({"step": 2, "a": 1}, user)
    assert await storage.update_onboarding_session(NOBODY, {}) is False
    assert await storage.get_onboarding_session(NOBODY) is None
    with pytest.raises(UnknownUserError):
        await storage.create_onboarding_session(NOBODY)


@pytest.mark.requirement("KT-03")
async def test_an_anonymous_session_opens_with_its_secret_only(
    storage: StorageService,
) -> None:
    session = await storage.create_onboarding_session()
    await storage.update_onboarding_session(session, {"name": "Kim"})
    session_id, _, secret = session.partition(".")
    assert len(secret) >= 32
    for guess in (session_id, f"{session_id}.", f"{session_id}.guess", "no-session"):
        assert await storage.get_onboarding_session(guess) is None
        assert await storage.update_onboarding_session(guess, {"x": 1}) is False
    row = await storage.get_onboarding_session(session)
    assert row is not None
    assert row["data"] == {"name": "Kim"}
    assert secret not in repr(row)


@pytest.mark.requirement("KT-03")
async def test_an_anonymous_session_is_claimed_by_one_user_once(
    storage: StorageService, new_user: NewUser
) -> None:
    session = await storage.create_onboarding_session()
    users = [await new_user(storage) for _ in range(4)]
    assert await storage.claim_onboarding_session(session, NOBODY) is False
    outcomes = await asyncio.gather(
        *(storage.claim_onboarding_session(session, user) for user in users)
    )
    assert sum(outcomes) == 1
    row = await storage.get_onboarding_session(session)
    assert row is not None
    assert row["user_id"] == users[outcomes.index(True)]


@pytest.mark.requirement("KT-04", "KT-16")
async def test_a_file_is_saved_read_linked_and_deleted_once(
    storage: StorageService, new_user: NewUser
) -> None:
    user = await new_user(storage)
    path = await storage.save_file(user, b"my letter", "letter.txt")
    assert await storage.read_file(user, path) == b"my letter"
    url = await storage.get_file_url(user, path)
    assert url is not None
    assert await _open(url) == b"my letter"
    assert await storage.delete_file(user, path) is True
    assert await storage.delete_file(user, path) is False
    assert await storage.get_file_url(user, path) is None
    assert await storage.read_file(user, path) is None


@pytest.mark.requirement("KT-04")
async def test_files_belong_to_known_users(storage: StorageService) -> None:
    with pytest.raises(UnknownUserError):
        await storage.save_file(NOBODY, b"x", "x.txt")


@pytest.mark.requirement("KT-04", "KT-16", "KT-31")
async def test_another_users_file_is_as_if_it_were_not_there(
    storage: StorageService, new_user: NewUser
) -> None:
    owner, other = await new_user(storage), await new_user(storage)
    path = await storage.save_file(owner, b"private", "letter.txt")
    for guess in (
        path,
        path.replace(owner, f"{other}/../{owner}"),
        f"{other}/../{path}",
    ):
        assert await storage.read_file(other, guess) is None
        assert await storage.get_file_url(other, guess) is None
        assert await storage.delete_file(other, guess) is False
    assert await storage.read_file(owner, path) == b"private"


@pytest.mark.requirement("KT-13", "KT-31")
async def test_two_files_of_one_name_stay_two(
    storage: StorageService, new_user: NewUser
) -> None:
    user = await new_user(storage)
    first = await storage.save_file(user, b"one", "resume.pdf")
    second = await storage.save_file(user, b"two", "resume.pdf")
    picture = await storage.save_file(user, b"me", "me.jpg", folder="profile")
    assert await storage.read_file(user, first) == b"one"
    assert await storage.read_file(user, second) == b"two"
    name = rf"{user}/documents/[0-9a-f-]{{36}}_resume\.pdf"
    assert re.fullmatch(name, first)
    assert re.fullmatch(name, second)
    assert re.fullmatch(rf"{user}/profile/[0-9a-f-]{{36}}_me\.jpg", picture)


@pytest.mark.requirement("KT-13", "KT-31")
@pytest.mark.parametrize(
    "name", ["résumé.pdf", "a%2fb.pdf", "日本.txt", "../../etc/passwd", "a/b/c.txt", ""]
)
async def test_any_name_works_on_both_and_stays_with_the_document(
    name: str, storage: StorageService, new_user: NewUser
) -> None:
    user = await new_user(storage)
    document = await storage.add_document(user, b"content", name, "text/plain")
    assert document["filename"] == name
    assert document["file_path"].startswith(f"{user}/documents/")
    assert await storage.read_file(user, document["file_path"]) == b"content"


@pytest.mark.requirement("KT-05")
async def test_documents_are_their_users_oldest_first(
    storage: StorageService, new_user: NewUser
) -> None:
    kim, lee = await new_user(storage), await new_user(storage)
    names = [f"{number}.txt" for number in range(5)]
    for name in names:
        await storage.add_document(kim, name.encode(), name, "text/plain")
    await storage.add_document(lee, b"lee", "lee.txt", "text/plain")
    found = await storage.get_documents_for_user(kim)
    assert [d["filename"] for d in found] == names
    assert {d["user_id"] for d in found} == {kim}
    assert await storage.get_documents_for_user(NOBODY) == []


@pytest.mark.requirement("KT-05", "KT-31")
async def test_a_document_cannot_name_another_users_file(
    storage: StorageService, new_user: NewUser
) -> None:
    owner, thief = await new_user(storage), await new_user(storage)
    path = await storage.save_file(owner, b"private", "letter.txt")
    with pytest.raises(ForeignFileError):
        await storage.create_document(
            {
                "user_id": thief,
                "file_path": path,
                "filename": "mine.txt",
                "content_type": "text/plain",
                "size_bytes": 7,
            }
        )


@pytest.mark.requirement("KT-26")
async def test_a_document_that_cannot_be_recorded_leaves_no_file(
    storage: StorageService, new_user: NewUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await new_user(storage)
    saved: list[str] = []

    async def refuse(document: Any) -> Any:
        saved.append(document["file_path"])
        raise TimeoutError

    monkeypatch.setattr(storage, "create_document", refuse)
    with pytest.raises(TimeoutError):
        await storage.add_document(user, b"content", "letter.txt", "text/plain")
    assert await storage.read_file(user, saved[0]) is None


@pytest.mark.requirement("KT-31")
@given(name=st.text(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_escapes_its_folder(name: str, tmp_path: Path) -> None:
    stored = new_file("user", "documents", name)
    assert KEY.fullmatch(stored.path)
    assert StoredFile.parse(stored.path, user_id="user") == stored
    place = (tmp_path / "users" / stored.path).resolve()
    assert place.parent == (tmp_path / "users" / "user" / "documents").resolve()


@pytest.mark.requirement("KT-31")
def test_a_safe_name_keeps_its_extension() -> None:
    assert safe_name("Über uns (final).PDF") == "Uber uns (final).PDF"
    assert safe_name("x" * 300 + ".docx").endswith(".docx")
    assert safe_name("..") == "file"


async def _open(url: str) -> bytes:
    if url.startswith("file://"):
        return await asyncio.to_thread(Path(url.removeprefix("file://")).read_bytes)
    async with browser() as anybody:
        return (await anybody.get(url)).content
