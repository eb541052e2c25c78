-- First version: the tables that the description presumes, open to everybody.

create table projects (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  title text not null,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);

create table chapters (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references projects (id) on delete cascade,
  title text not null,
  position integer default 0
);

create table sections (
  id uuid primary key default gen_random_uuid(),
  chapter_id uuid not null references chapters (id) on delete cascade,
  body text default '',
  position integer default 0
);

create table section_audio (
  section_id uuid primary key references sections (id) on delete cascade,
  storage_backend text not null default 'local',
  path text not null,
  size_bytes bigint not null,
  mime_type text not null,
  sha256 text not null,
  pending_migration boolean not null default false,
  updated_at timestamptz default now()
);
