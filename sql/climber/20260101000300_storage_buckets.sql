-- The four buckets.  Sizes are bytes: 5 MiB, 100 MiB, 10 MiB, 5 MiB.

do $$
begin
  if to_regclass('public.video_content') is null
     or to_regprocedure('public.has_role(uuid, text)') is null then
    raise exception 'prerequisite missing: content tables (ST-MT-2-6) or roles (ST-MT-2-9)'
      using errcode = '55000',
            hint = 'Apply the earlier migrations of this folder first.';
  end if;
end;
$$;

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values
  ('user-avatars', 'user-avatars', true, 5242880,
   array['image/jpeg', 'image/png', 'image/webp']),
  ('training-videos', 'training-videos', false, 104857600,
   array['video/mp4', 'video/webm', 'video/quicktime']),
  ('mountain-images', 'mountain-images', true, 10485760,
   array['image/jpeg', 'image/png', 'image/webp']),
  ('app-assets', 'app-assets', true, 5242880,
   array['image/jpeg', 'image/png', 'image/webp', 'image/svg+xml'])
on conflict (id) do update
  set public = excluded.public,
      file_size_limit = excluded.file_size_limit,
      allowed_mime_types = excluded.allowed_mime_types
  where (buckets.public, buckets.file_size_limit, buckets.allowed_mime_types)
    is distinct from
    (excluded.public, excluded.file_size_limit, excluded.allowed_mime_types);
