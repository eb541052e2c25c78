-- profile_image_url follows the newest file <uid>/<file> in user-avatars, whatever the
-- history of uploads, overwrites, moves and deletions: it is computed, never patched.
-- Newest means written last; drafts in subfolders do not count.

create or replace function private.newest_avatar_url(p_user_id uuid)
returns text
language sql stable set search_path = ''
as $$
  select public.storage_public_url(o.bucket_id, o.name)
  from storage.objects as o
  where o.bucket_id = 'user-avatars'
    -- '0' is the character after '/': a range on the index (bucket_id, name).
    and o.name collate "C" >= p_user_id::text || '/'
    and o.name collate "C" < p_user_id::text || '0'
    and cardinality(o.path_tokens) = 2
  order by o.updated_at desc, o.created_at desc, o.name desc
  limit 1;
$$;
revoke all on function private.newest_avatar_url(uuid) from public;

create or replace function private.refresh_avatar_url(p_name text)
returns void
language plpgsql security definer set search_path = ''
as $$
declare
  v_folder text := split_part(p_name, '/', 1);
  v_user_id uuid;
begin
  -- Policies compare text, so only the canonical spelling is somebody's folder.
  if v_folder !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    return;
  end if;
  -- Lock first, look second: the next statement sees what a concurrent upload wrote.
  select p.id into v_user_id
  from public.user_profiles as p where p.id = v_folder::uuid for update;
  if not found then
    return;
  end if;
  update public.user_profiles as p
  set profile_image_url = newest.url
  from (select private.newest_avatar_url(v_user_id) as url) as newest
  where p.id = v_user_id and p.profile_image_url is distinct from newest.url;
exception
  -- A mistake in here must not veto uploads; a lost lock or deadlock still does.
  when syntax_error_or_access_rule_violation or data_exception then
    raise warning 'profile image of % was not updated: %', v_folder, sqlerrm;
end;
$$;
revoke all on function private.refresh_avatar_url(text) from public;

create or replace function public.handle_avatar_upload()
returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if new.bucket_id = 'user-avatars' then
    perform private.refresh_avatar_url(new.name);
  end if;
  if tg_op = 'UPDATE' and old.bucket_id = 'user-avatars'
     and (old.bucket_id, old.name) is distinct from (new.bucket_id, new.name) then
    perform private.refresh_avatar_url(old.name);
  end if;
  return null;
end;
$$;
create or replace function public.handle_avatar_deletion()
returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  if old.bucket_id = 'user-avatars' then
    perform private.refresh_avatar_url(old.name);
  end if;
  return null;
end;
$$;
revoke all on function public.handle_avatar_upload(), public.handle_avatar_deletion()
  from public, anon, authenticated;

create or replace trigger avatar_upload_trigger
  after insert or update of bucket_id, name, metadata, version on storage.objects
  for each row execute function public.handle_avatar_upload();
create or replace trigger avatar_deletion_trigger
  after delete on storage.objects
  for each row execute function public.handle_avatar_deletion();

-- A profile made after the first upload starts with the right picture too.
create or replace function private.start_with_newest_avatar()
returns trigger
language plpgsql security definer set search_path = ''
as $$
begin
  new.profile_image_url := private.newest_avatar_url(new.id);
  return new;
end;
$$;
revoke all on function private.start_with_newest_avatar() from public;
create or replace trigger start_with_newest_avatar
  before insert on public.user_profiles
  for each row execute function private.start_with_newest_avatar();
