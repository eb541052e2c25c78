-- An application's first migration: extensions, a type, tables, policies, a trigger.
create extension if not exists citext with schema extensions;
create extension if not exists "uuid-ossp" with schema extensions;

create type public.task_state as enum ('open', 'done');

create table public.profiles (
  id uuid primary key references auth.users on delete cascade,
  name extensions.citext not null unique
);

create table public.tasks (
  id uuid primary key default extensions.uuid_generate_v4(),
  owner uuid not null default auth.uid() references public.profiles,
  title text not null check (length(title) between 1 and 80),
  state public.task_state not null default 'open',
  made_at timestamptz not null default now()
);

alter table public.profiles enable row level security;
alter table public.tasks enable row level security;

create policy "own profile" on public.profiles
  for all to authenticated using (id = auth.uid());
create policy "own tasks" on public.tasks
  for all to authenticated using (owner = auth.uid()) with check (owner = auth.uid());

create function public.make_profile() returns trigger
  language plpgsql security definer set search_path = ''
as $$
begin
  insert into public.profiles (id, name) values (new.id, split_part(new.email, '@', 1));
  return new;
end;
$$;

create trigger on_user_created after insert on auth.users
  for each row execute function public.make_profile();

alter publication supabase_realtime add table public.tasks;

grant select on public.tasks to conformance_reader;
