-- The bucket of scene images, public by URL, and who may put what into it:
-- <uid>/<story>/scene_<i>_<uuid>.png of one's own story.  Images are written once, so
-- there is no UPDATE policy; listing is the owner's.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values ('story-images', 'story-images', true, 10485760, array['image/png'])
on conflict (id) do update
  set public = excluded.public,
      file_size_limit = excluded.file_size_limit,
      allowed_mime_types = excluded.allowed_mime_types
  where (buckets.public, buckets.file_size_limit, buckets.allowed_mime_types)
    is distinct from
    (excluded.public, excluded.file_size_limit, excluded.allowed_mime_types);

drop policy if exists scene_images_owner_select on storage.objects;
create policy scene_images_owner_select on storage.objects
  for select to authenticated
  using (bucket_id = 'story-images'
    and (storage.foldername(name))[1] = (select auth.uid())::text);
drop policy if exists scene_images_owner_insert on storage.objects;
create policy scene_images_owner_insert on storage.objects
  for insert to authenticated
  with check (bucket_id = 'story-images'
    and (storage.foldername(name))[1] = (select auth.uid())::text
    and cardinality(path_tokens) = 3
    and name like '%.png'
    and exists (
      select from public.stories as s
      where s.user_id = (select auth.uid())
        and s.id::text = (storage.foldername(objects.name))[2]));
drop policy if exists scene_images_owner_delete on storage.objects;
create policy scene_images_owner_delete on storage.objects
  for delete to authenticated
  using (bucket_id = 'story-images'
    and (storage.foldername(name))[1] = (select auth.uid())::text);
