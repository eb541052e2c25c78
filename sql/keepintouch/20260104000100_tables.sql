-- The nine tables.  Every row belongs to one user, who alone reaches it; a child row
-- belongs to the user of its parent, by foreign key.

create table if not exists public.users (
  id uuid primary key references auth.users (id) on delete cascade,
  email text,
  name text,
  phone text,
  profile jsonb not null default '{}' check (jsonb_typeof(profile) = 'object'),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

-- An anonymous session has no user, but a secret of which only the hash is kept; it can
-- be claimed once.
create table if not exists public.onboarding_sessions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid references public.users (id) on delete cascade,
  secret_hash text check (secret_hash ~ '^[0-9a-f]{64}$'),
  data jsonb not null default '{}' check (jsonb_typeof(data) = 'object'),
  claimed_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  check (user_id is not null or secret_hash is not null)
);
create index if not exists idx_onboarding_sessions_user
  on public.onboarding_sessions (user_id);

create table if not exists public.documents (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  folder text not null default 'documents' check (folder in ('documents', 'profile')),
  stored_name text not null check (stored_name ~ '^[^/]+$'),
  -- Made of the owner's id, so that nobody records a file of another user as their own.
  file_path text not null unique
    generated always as (user_id::text || '/' || folder || '/' || stored_name) stored,
  filename text not null,
  content_type text not null,
  size_bytes bigint not null check (size_bytes >= 0),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index if not exists idx_documents_user on public.documents (user_id, created_at);

create table if not exists public.diary_entries (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  entry_date date not null,
  body text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index if not exists idx_diary_entries_user
  on public.diary_entries (user_id, entry_date);

create table if not exists public.contacts (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  name text not null,
  email text,
  birthday date,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (id, user_id)
);
create index if not exists idx_contacts_user on public.contacts (user_id);

create table if not exists public.interactions (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  contact_id uuid not null,
  kind text not null,
  notes text,
  occurred_at timestamptz not null default now(),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  foreign key (contact_id, user_id)
    references public.contacts (id, user_id) on delete cascade
);
create index if not exists idx_interactions_user on public.interactions (user_id);
create index if not exists idx_interactions_contact
  on public.interactions (contact_id, user_id);

create table if not exists public.reminders (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  contact_id uuid not null,
  due_at timestamptz not null,
  note text,
  done boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  foreign key (contact_id, user_id)
    references public.contacts (id, user_id) on delete cascade
);
create index if not exists idx_reminders_user on public.reminders (user_id, due_at);
create index if not exists idx_reminders_contact
  on public.reminders (contact_id, user_id);

create table if not exists public.messages (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references public.users (id) on delete cascade,
  contact_id uuid not null,
  body text not null,
  sent_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  foreign key (contact_id, user_id)
    references public.contacts (id, user_id) on delete cascade
);
create index if not exists idx_messages_user on public.messages (user_id);
create index if not exists idx_messages_contact on public.messages (contact_id, user_id);

create table if not exists public.user_settings (
  user_id uuid primary key references public.users (id) on delete cascade,
  settings jsonb not null default '{}' check (jsonb_typeof(settings) = 'object'),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

do $$
declare
  v_table text;
  v_owner text;
begin
  foreach v_table in array array[
    'users', 'onboarding_sessions', 'documents', 'diary_entries', 'contacts',
    'interactions', 'reminders', 'messages', 'user_settings']
  loop
    v_owner := case v_table when 'users' then 'id' else 'user_id' end;
    execute format('alter table public.%I enable row level security', v_table);
    execute format('revoke all on public.%I from anon, authenticated', v_table);
    execute format(
      'grant select, insert, update, delete on public.%I to authenticated', v_table);
    execute format('grant all on public.%I to service_role', v_table);
    execute format('drop policy if exists own_all on public.%I', v_table);
    execute format(
      'create policy own_all on public.%I for all to authenticated'
      ' using (%I = (select auth.uid())) with check (%I = (select auth.uid()))',
      v_table, v_owner, v_owner);
    execute format(
      'create or replace trigger %I before update on public.%I'
      ' for each row execute function public.update_updated_at_column()',
      'update_' || v_table || '_updated_at', v_table);
  end loop;
end;
$$;

-- Sessions are begun and claimed by the service, which knows the secrets.
revoke insert, update, delete on public.onboarding_sessions from authenticated;
revoke select on public.onboarding_sessions from authenticated;
grant select (id, user_id, data, claimed_at, created_at, updated_at)
  on public.onboarding_sessions to authenticated;
grant update (data) on public.onboarding_sessions to authenticated;
