-- Projects, chapters and sections of a narrator, and where each section's audio is.

create table if not exists public.projects (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  title text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index if not exists idx_projects_user on public.projects (user_id);

create table if not exists public.chapters (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references public.projects (id) on delete cascade,
  title text not null,
  position integer not null default 0
);
create index if not exists idx_chapters_project on public.chapters (project_id);

create table if not exists public.sections (
  id uuid primary key default gen_random_uuid(),
  chapter_id uuid not null references public.chapters (id) on delete cascade,
  body text not null default '',
  position integer not null default 0
);
create index if not exists idx_sections_chapter on public.sections (chapter_id);

-- path is relative: to the bucket audiofiles, or to the local audio folder, according to
-- storage_backend.  pending_migration marks audio that fell back to local storage.
create table if not exists public.section_audio (
  section_id uuid primary key references public.sections (id) on delete cascade,
  storage_backend text not null check (storage_backend in ('local', 'supabase')),
  path text not null unique,
  size_bytes bigint not null check (size_bytes >= 0),
  mime_type text not null
    check (mime_type in ('audio/mpeg', 'audio/mp3', 'audio/wav', 'audio/x-wav')),
  sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
  pending_migration boolean not null default false,
  updated_at timestamptz not null default now(),
  check (not pending_migration or storage_backend = 'local')
);
create index if not exists idx_section_audio_pending
  on public.section_audio (section_id) where pending_migration;

alter table public.projects enable row level security;
alter table public.chapters enable row level security;
alter table public.sections enable row level security;
alter table public.section_audio enable row level security;

revoke all on public.projects, public.chapters, public.sections, public.section_audio
  from anon, authenticated;
grant select, insert, update, delete on public.projects, public.chapters, public.sections
  to authenticated;
-- Where audio lies is recorded by the service: a path chosen by a user could name
-- somebody else's file.
grant select on public.section_audio to authenticated;
grant all on public.projects, public.chapters, public.sections, public.section_audio
  to service_role;

drop policy if exists projects_owner_all on public.projects;
create policy projects_owner_all on public.projects
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

-- The subqueries obey the policy of the parent table, so ownership comes down the tree.
drop policy if exists chapters_owner_all on public.chapters;
create policy chapters_owner_all on public.chapters
  for all to authenticated
  using (exists (select from public.projects as p
    where p.id = project_id and p.user_id = (select auth.uid())))
  with check (exists (select from public.projects as p
    where p.id = project_id and p.user_id = (select auth.uid())));

drop policy if exists sections_owner_all on public.sections;
create policy sections_owner_all on public.sections
  for all to authenticated
  using (exists (select from public.chapters as c
    join public.projects as p on p.id = c.project_id
    where c.id = chapter_id and p.user_id = (select auth.uid())))
  with check (exists (select from public.chapters as c
    join public.projects as p on p.id = c.project_id
    where c.id = chapter_id and p.user_id = (select auth.uid())));

drop policy if exists section_audio_owner_select on public.section_audio;
create policy section_audio_owner_select on public.section_audio
  for select to authenticated
  using (exists (select from public.sections as s
    join public.chapters as c on c.id = s.chapter_id
    join public.projects as p on p.id = c.project_id
    where s.id = section_id and p.user_id = (select auth.uid())));

create or replace trigger update_projects_updated_at
  before update on public.projects
  for each row execute function public.update_updated_at_column();
create or replace trigger update_section_audio_updated_at
  before update on public.section_audio
  for each row execute function public.update_updated_at_column();
