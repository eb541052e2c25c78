-- The private bucket: 50 MiB a file, four spellings of two audio types.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values ('audiofiles', 'audiofiles', false, 52428800,
  array['audio/mpeg', 'audio/mp3', 'audio/wav', 'audio/x-wav'])
on conflict (id) do update
  set public = excluded.public,
      file_size_limit = excluded.file_size_limit,
      allowed_mime_types = excluded.allowed_mime_types
  where (buckets.public, buckets.file_size_limit, buckets.allowed_mime_types)
    is distinct from
    (excluded.public, excluded.file_size_limit, excluded.allowed_mime_types);
