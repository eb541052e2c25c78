-- First version: no policy names a role, the caller is looked up for every row, a
-- premium user's folder is not checked, and nothing keeps an object in its bucket.

create policy avatar_read on storage.objects for select
  using (bucket_id = 'user-avatars'
    and auth.uid()::text = (storage.foldername(name))[1]);
create policy avatar_add on storage.objects for insert
  with check (bucket_id = 'user-avatars'
    and auth.uid()::text = (storage.foldername(name))[1]);
create policy avatar_change on storage.objects for update
  using (bucket_id = 'user-avatars'
    and auth.uid()::text = (storage.foldername(name))[1]);
create policy avatar_remove on storage.objects for delete
  using (bucket_id = 'user-avatars'
    and auth.uid()::text = (storage.foldername(name))[1]);

create policy video_read on storage.objects for select
  using (bucket_id = 'training-videos' and auth.role() = 'authenticated');
create policy video_add on storage.objects for insert
  with check (bucket_id = 'training-videos' and has_role(auth.uid(), 'premium_user'));
create policy video_change on storage.objects for update
  using (bucket_id = 'training-videos'
    and auth.uid()::text = (storage.foldername(name))[1]);
create policy video_remove on storage.objects for delete
  using (bucket_id = 'training-videos'
    and auth.uid()::text = (storage.foldername(name))[1]);

create policy mountain_read on storage.objects for select
  using (bucket_id = 'mountain-images');
create policy mountain_add on storage.objects for insert
  with check (bucket_id = 'mountain-images' and has_role(auth.uid(), 'admin'));
create policy mountain_change on storage.objects for update
  using (bucket_id = 'mountain-images' and has_role(auth.uid(), 'admin'));
create policy mountain_remove on storage.objects for delete
  using (bucket_id = 'mountain-images' and has_role(auth.uid(), 'admin'));

create policy asset_read on storage.objects for select
  using (bucket_id = 'app-assets');
create policy asset_manage on storage.objects for all
  using (bucket_id = 'app-assets' and has_role(auth.uid(), 'admin'));
