-- First version: the bucket as it is described.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values ('audiofiles', 'audiofiles', false, 52428800,
  '{audio/mpeg,audio/mp3,audio/wav,audio/x-wav}')
on conflict (id) do nothing;
