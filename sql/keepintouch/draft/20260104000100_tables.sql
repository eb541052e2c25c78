-- First version: the nine tables with keys, indexes, own-row policies and timestamps, as
-- the description has them.

create function touch_updated_at() returns trigger language plpgsql as $$
begin
  new.updated_at := now();
  return new;
end;
$$;

create table users (
  id uuid primary key references auth.users (id) on delete cascade,
  email text, name text, phone text, profile jsonb default '{}',
  created_at timestamptz default now(), updated_at timestamptz default now());
create table onboarding_sessions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references users (id) on delete cascade, data jsonb default '{}',
  secret_hash text, claimed_at timestamptz,
  created_at timestamptz default now(), updated_at timestamptz default now());
create table documents (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references users (id) on delete cascade,
  folder text, stored_name text,
  file_path text unique
    generated always as (user_id::text || '/' || folder || '/' || stored_name) stored,
  filename text, content_type text, size_bytes bigint,
  created_at timestamptz default now(), updated_at timestamptz default now());
create table diary_entries (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references users (id) on delete cascade, entry_date date, body text,
  created_at timestamptz default now(), updated_at timestamptz default now());
create table contacts (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references users (id) on delete cascade, name text, email text,
  birthday date,
  created_at timestamptz default now(), updated_at timestamptz default now());
create table interactions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references users (id) on delete cascade,
  contact_id uuid references contacts (id) on delete cascade, kind text, notes text,
  occurred_at timestamptz default now(),
  created_at timestamptz default now(), updated_at timestamptz default now());
create table reminders (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references users (id) on delete cascade,
  contact_id uuid references contacts (id) on delete cascade, due_at timestamptz,
  note text, done boolean default false,
  created_at timestamptz default now(), updated_at timestamptz default now());
create table messages (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references users (id) on delete cascade,
  contact_id uuid references contacts (id) on delete cascade, body text,
  sent_at timestamptz,
  created_at timestamptz default now(), updated_at timestamptz default now());
create table user_settings (
  user_id uuid primary key references users (id) on delete cascade,
  settings jsonb default '{}',
  created_at timestamptz default now(), updated_at timestamptz default now());

do $$
declare
  t text;
  owner_column text;
begin
  foreach t in array array[
    'users', 'onboarding_sessions', 'documents', 'diary_entries', 'contacts',
    'interactions', 'reminders', 'messages', 'user_settings']
  loop
    owner_column := case t when 'users' then 'id' else 'user_id' end;
    execute format('alter table %I enable row level security', t);
    execute format('create policy own_rows on %I using (auth.uid() = %I)',
      t, owner_column);
    execute format('create index on %I (%I)', t, owner_column);
    execute format('create trigger touch before update on %I'
      ' for each row execute function touch_updated_at()', t);
  end loop;
end;
$$;
