-- The private bucket of documents and profile pictures: <uid>/documents/<uuid>_<name>
-- and <uid>/profile/<uuid>_<name>, 25 MiB a file.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values ('user-documents', 'user-documents', false, 26214400, array[
  'application/pdf', 'image/jpeg', 'image/png', 'image/webp', 'text/plain',
  'text/markdown', 'application/msword',
  'application/vnd.openxmlformats-officedocument.wordprocessingml.document'])
on conflict (id) do update
  set public = excluded.public,
      file_size_limit = excluded.file_size_limit,
      allowed_mime_types = excluded.allowed_mime_types
  where (buckets.public, buckets.file_size_limit, buckets.allowed_mime_types)
    is distinct from
    (excluded.public, excluded.file_size_limit, excluded.allowed_mime_types);

do $$
declare
  v_command text;
  v_own constant text :=
    'bucket_id = ''user-documents'''
    ' and (storage.foldername(name))[1] = (select auth.uid())::text'
    ' and (storage.foldername(name))[2] in (''documents'', ''profile'')'
    ' and cardinality(path_tokens) = 3';
begin
  foreach v_command in array array['select', 'insert', 'update', 'delete'] loop
    execute format(
      'drop policy if exists %I on storage.objects', 'documents_owner_' || v_command);
    execute format(
      'create policy %I on storage.objects for %s to authenticated%s%s',
      'documents_owner_' || v_command, v_command,
      case when v_command <> 'insert' then format(' using (%s)', v_own) end,
      case when v_command in ('insert', 'update')
           then format(' with check (%s)', v_own) end);
  end loop;
end;
$$;
