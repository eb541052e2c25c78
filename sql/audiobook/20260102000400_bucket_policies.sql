-- Own folder only, and in it only <project>/<chapter>/<section>/<file> of a section that
-- the caller owns, with the extension of its type.

do $$
begin
  if to_regclass('public.user_credits') is null then
    raise exception 'storage tracking is missing: uploads would not be counted'
      using errcode = '55000', hint = 'Apply *_storage_tracking.sql first.';
  end if;
  if not exists (select from storage.buckets where id = 'audiofiles') then
    raise exception 'the bucket audiofiles is missing'
      using errcode = '55000', hint = 'Apply *_audio_bucket.sql first.';
  end if;
end;
$$;

-- The extension belongs to the type; a row without metadata has either.
create or replace function private.has_audio_extension(p_name text, p_metadata jsonb)
returns boolean
language sql immutable set search_path = ''
as $$
  select case coalesce(p_metadata ->> 'mimetype', '')
    when 'audio/mpeg' then p_name ~ '[^/]\.mp3$'
    when 'audio/mp3' then p_name ~ '[^/]\.mp3$'
    when 'audio/wav' then p_name ~ '[^/]\.wav$'
    when 'audio/x-wav' then p_name ~ '[^/]\.wav$'
    else p_name ~ '[^/]\.(mp3|wav)$'
  end;
$$;
revoke all on function private.has_audio_extension(text, jsonb) from public;
grant execute on function private.has_audio_extension(text, jsonb) to authenticated;

-- The subqueries obey the tables' own policies, so a section found is the caller's.
drop policy if exists audio_owner_select on storage.objects;
create policy audio_owner_select on storage.objects
  for select to authenticated
  using (bucket_id = 'audiofiles'
    and (storage.foldername(name))[1] = (select auth.uid())::text);
drop policy if exists audio_owner_insert on storage.objects;
create policy audio_owner_insert on storage.objects
  for insert to authenticated
  with check (bucket_id = 'audiofiles'
    and (storage.foldername(name))[1] = (select auth.uid())::text
    and cardinality(path_tokens) = 5
    and private.has_audio_extension(name, metadata)
    and exists (
      select from public.sections as s
      join public.chapters as c on c.id = s.chapter_id
      join public.projects as p on p.id = c.project_id
      where p.user_id = (select auth.uid())
        and p.id::text = (storage.foldername(objects.name))[2]
        and c.id::text = (storage.foldername(objects.name))[3]
        and s.id::text = (storage.foldername(objects.name))[4]));
drop policy if exists audio_owner_update on storage.objects;
create policy audio_owner_update on storage.objects
  for update to authenticated
  using (bucket_id = 'audiofiles'
    and (storage.foldername(name))[1] = (select auth.uid())::text)
  with check (bucket_id = 'audiofiles'
    and (storage.foldername(name))[1] = (select auth.uid())::text
    and cardinality(path_tokens) = 5
    and private.has_audio_extension(name, metadata)
    and exists (
      select from public.sections as s
      join public.chapters as c on c.id = s.chapter_id
      join public.projects as p on p.id = c.project_id
      where p.user_id = (select auth.uid())
        and p.id::text = (storage.foldername(objects.name))[2]
        and c.id::text = (storage.foldername(objects.name))[3]
        and s.id::text = (storage.foldername(objects.name))[4]));
drop policy if exists audio_owner_delete on storage.objects;
create policy audio_owner_delete on storage.objects
  for delete to authenticated
  using (bucket_id = 'audiofiles'
    and (storage.foldername(name))[1] = (select auth.uid())::text);
