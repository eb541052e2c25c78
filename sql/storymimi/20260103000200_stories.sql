-- Stories and their scenes, each belonging to one user.

create table if not exists public.stories (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  title text not null check (title <> ''),
  prompt text not null,
  status text not null default 'creating'
    check (status in ('creating', 'ready', 'failed')),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index if not exists idx_stories_user on public.stories (user_id);

create table if not exists public.scenes (
  id uuid primary key default gen_random_uuid(),
  story_id uuid not null references public.stories (id) on delete cascade,
  idx integer not null check (idx >= 0),
  text text not null,
  image_url text,
  unique (story_id, idx)
);

alter table public.stories enable row level security;
alter table public.scenes enable row level security;
revoke all on public.stories, public.scenes from anon, authenticated;
grant select, insert, update, delete on public.stories, public.scenes to authenticated;
grant all on public.stories, public.scenes to service_role;

drop policy if exists stories_owner_all on public.stories;
create policy stories_owner_all on public.stories
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
drop policy if exists scenes_owner_all on public.scenes;
create policy scenes_owner_all on public.scenes
  for all to authenticated
  using (exists (select from public.stories as s
    where s.id = story_id and s.user_id = (select auth.uid())))
  with check (exists (select from public.stories as s
    where s.id = story_id and s.user_id = (select auth.uid())));

create or replace trigger update_stories_updated_at
  before update on public.stories
  for each row execute function public.update_updated_at_column();
