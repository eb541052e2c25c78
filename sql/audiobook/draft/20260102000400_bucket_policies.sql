-- First version: the own folder, any depth, any project, any extension.

create policy audio_read on storage.objects for select
  using (bucket_id = 'audiofiles'
    and auth.uid()::text = (storage.foldername(name))[1]);
create policy audio_add on storage.objects for insert
  with check (bucket_id = 'audiofiles'
    and auth.uid()::text = (storage.foldername(name))[1]);
create policy audio_change on storage.objects for update
  using (bucket_id = 'audiofiles'
    and auth.uid()::text = (storage.foldername(name))[1]);
create policy audio_remove on storage.objects for delete
  using (bucket_id = 'audiofiles'
    and auth.uid()::text = (storage.foldername(name))[1]);
