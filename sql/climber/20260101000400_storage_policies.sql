-- Who may do what with files.  Paths are <uid>/<file>; (select ...) makes Postgres
-- evaluate the caller once a statement instead of once a row, and every policy names
-- its roles, so that anon never evaluates has_role.
--
-- user-avatars is public by URL, which needs no policy; listing and authenticated reads
-- are the owner's.

drop policy if exists avatars_owner_select on storage.objects;
create policy avatars_owner_select on storage.objects
  for select to authenticated
  using (bucket_id = 'user-avatars'
    and (storage.foldername(name))[1] = (select auth.uid())::text);
drop policy if exists avatars_owner_insert on storage.objects;
create policy avatars_owner_insert on storage.objects
  for insert to authenticated
  with check (bucket_id = 'user-avatars'
    and (storage.foldername(name))[1] = (select auth.uid())::text);
drop policy if exists avatars_owner_update on storage.objects;
create policy avatars_owner_update on storage.objects
  for update to authenticated
  using (bucket_id = 'user-avatars'
    and (storage.foldername(name))[1] = (select auth.uid())::text)
  with check (bucket_id = 'user-avatars'
    and (storage.foldername(name))[1] = (select auth.uid())::text);
drop policy if exists avatars_owner_delete on storage.objects;
create policy avatars_owner_delete on storage.objects
  for delete to authenticated
  using (bucket_id = 'user-avatars'
    and (storage.foldername(name))[1] = (select auth.uid())::text);

-- Anonymous sign-ins have the role authenticated too and may watch, as intended.
drop policy if exists videos_authenticated_select on storage.objects;
create policy videos_authenticated_select on storage.objects
  for select to authenticated
  using (bucket_id = 'training-videos');
drop policy if exists videos_premium_owner_insert on storage.objects;
create policy videos_premium_owner_insert on storage.objects
  for insert to authenticated
  with check (bucket_id = 'training-videos'
    and (storage.foldername(name))[1] = (select auth.uid())::text
    and (select public.has_role((select auth.uid()), 'premium_user')));
-- Without the premium role one's old videos may be deleted, but not replaced.
drop policy if exists videos_premium_owner_update on storage.objects;
create policy videos_premium_owner_update on storage.objects
  for update to authenticated
  using (bucket_id = 'training-videos'
    and (storage.foldername(name))[1] = (select auth.uid())::text
    and (select public.has_role((select auth.uid()), 'premium_user')))
  with check (bucket_id = 'training-videos'
    and (storage.foldername(name))[1] = (select auth.uid())::text
    and (select public.has_role((select auth.uid()), 'premium_user')));
drop policy if exists videos_owner_delete on storage.objects;
create policy videos_owner_delete on storage.objects
  for delete to authenticated
  using (bucket_id = 'training-videos'
    and (storage.foldername(name))[1] = (select auth.uid())::text);

drop policy if exists mountains_anyone_select on storage.objects;
create policy mountains_anyone_select on storage.objects
  for select to anon, authenticated
  using (bucket_id = 'mountain-images');
drop policy if exists mountains_admin_insert on storage.objects;
create policy mountains_admin_insert on storage.objects
  for insert to authenticated
  with check (bucket_id = 'mountain-images'
    and (select public.has_role((select auth.uid()), 'admin')));
drop policy if exists mountains_admin_update on storage.objects;
create policy mountains_admin_update on storage.objects
  for update to authenticated
  using (bucket_id = 'mountain-images'
    and (select public.has_role((select auth.uid()), 'admin')))
  with check (bucket_id = 'mountain-images'
    and (select public.has_role((select auth.uid()), 'admin')));
drop policy if exists mountains_admin_delete on storage.objects;
create policy mountains_admin_delete on storage.objects
  for delete to authenticated
  using (bucket_id = 'mountain-images'
    and (select public.has_role((select auth.uid()), 'admin')));

drop policy if exists assets_anyone_select on storage.objects;
create policy assets_anyone_select on storage.objects
  for select to anon, authenticated
  using (bucket_id = 'app-assets');
drop policy if exists assets_admin_all on storage.objects;
create policy assets_admin_all on storage.objects
  for all to authenticated
  using (bucket_id = 'app-assets'
    and (select public.has_role((select auth.uid()), 'admin')))
  with check (bucket_id = 'app-assets'
    and (select public.has_role((select auth.uid()), 'admin')));

-- No indexes here: lookups by bucket and by path are served by those of the Storage API
-- (bucket_id, name), no policy reads the owner, and a project may not index a table that
-- belongs to Storage.
