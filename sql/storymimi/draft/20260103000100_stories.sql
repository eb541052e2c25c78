-- First version: tables that the guide presumes, without row level security; a bucket
-- made without options, so private and without limits; images in one flat folder that
-- every signed-in user may fill.

create table stories (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  title text not null,
  prompt text not null,
  status text not null default 'creating',
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);

create table scenes (
  id uuid primary key default gen_random_uuid(),
  story_id uuid not null references stories (id) on delete cascade,
  idx integer not null,
  text text not null,
  image_url text
);

insert into storage.buckets (id, name) values ('story-images', 'story-images')
on conflict (id) do nothing;

create policy story_image_add on storage.objects for insert
  with check (bucket_id = 'story-images' and auth.role() = 'authenticated');
