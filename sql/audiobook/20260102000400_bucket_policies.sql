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

-- SECURITY INVOKER: the tables' own policies say which sections the caller owns.
create or replace function private.is_own_audio_path(p_name text, p_metadata jsonb)
returns boolean
language sql stable set search_path = ''
as $$
  select cardinality(tokens) = 5
    and tokens[1] = (select auth.uid())::text
    and case coalesce(p_metadata ->> 'mimetype', '')
          when 'audio/mpeg' then tokens[5] ~ '.\.mp3$'
          when 'audio/mp3' then tokens[5] ~ '.\.mp3$'
          when 'audio/wav' then tokens[5] ~ '.\.wav$'
          when 'audio/x-wav' then tokens[5] ~ '.\.wav$'
          else tokens[5] ~ '.\.(mp3|wav)$'
        end
    and exists (
      select from public.sections as s
      join public.chapters as c on c.id = s.chapter_id
      join public.projects as p on p.id = c.project_id
      where p.user_id = (select auth.uid())
        and p.id::text = tokens[2] and c.id::text = tokens[3] and s.id::text = tokens[4])
  from string_to_array(p_name, '/') as path (tokens);
$$;
revoke all on function private.is_own_audio_path(text, jsonb) from public;
grant execute on function private.is_own_audio_path(text, jsonb) to authenticated;

drop policy if exists audio_owner_select on storage.objects;
create policy audio_owner_select on storage.objects
  for select to authenticated
  using (bucket_id = 'audiofiles'
    and (storage.foldername(name))[1] = (select auth.uid())::text);
drop policy if exists audio_owner_insert on storage.objects;
create policy audio_owner_insert on storage.objects
  for insert to authenticated
  with check (bucket_id = 'audiofiles'
    and private.is_own_audio_path(name, metadata));
drop policy if exists audio_owner_update on storage.objects;
create policy audio_owner_update on storage.objects
  for update to authenticated
  using (bucket_id = 'audiofiles'
    and (storage.foldername(name))[1] = (select auth.uid())::text)
  with check (bucket_id = 'audiofiles'
    and private.is_own_audio_path(name, metadata));
drop policy if exists audio_owner_delete on storage.objects;
create policy audio_owner_delete on storage.objects
  for delete to authenticated
  using (bucket_id = 'audiofiles'
    and (storage.foldername(name))[1] = (select auth.uid())::text);
