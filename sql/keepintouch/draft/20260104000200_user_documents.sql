-- First version: a bucket without limits, and one policy, which names no bucket: it
-- opens the own folder of every bucket of the project for uploads, and nothing else.

insert into storage.buckets (id, name, public)
values ('user-documents', 'user-documents', false)
on conflict (id) do nothing;

create policy own_upload on storage.objects for insert
  with check (auth.uid()::text = (storage.foldername(name))[1]);
