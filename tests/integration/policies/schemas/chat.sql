-- Chat: open and invite-only rooms, participants, messages, typing topics.

create table public.profiles (
  id uuid primary key references auth.users (id) on delete cascade,
  username text not null unique check (char_length(username) >= 3),
  avatar_url text,
  updated_at timestamptz default now()
);

create table public.rooms (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  is_private boolean not null default false,
  created_by uuid not null default auth.uid() references public.profiles (id),
  created_at timestamptz not null default now()
);

create table public.room_participants (
  room_id uuid not null references public.rooms (id) on delete cascade,
  user_id uuid not null references public.profiles (id) on delete cascade,
  joined_at timestamptz not null default now(),
  primary key (room_id, user_id)
);

create table public.messages (
  id bigint generated always as identity primary key,
  room_id uuid not null references public.rooms (id) on delete cascade,
  user_id uuid not null default auth.uid() references public.profiles (id),
  content text not null check (char_length(content) between 1 and 2000),
  inserted_at timestamptz not null default now()
);

create function public.is_room_participant(_room_id uuid)
returns boolean language sql stable security definer set search_path = ''
as $$
  select exists (
    select 1 from public.room_participants p
    where p.room_id = _room_id and p.user_id = auth.uid()
  );
$$;

create function public.handle_new_user()
returns trigger language plpgsql security definer set search_path = ''
as $$
begin
  insert into public.profiles (id, username)
  values (new.id, coalesce(new.raw_user_meta_data ->> 'username',
    'user_' || left(new.id::text, 13)));
  return new;
end;
$$;
create trigger on_auth_user_created
  after insert on auth.users
  for each row execute function public.handle_new_user();

create function public.add_creator()
returns trigger language plpgsql security definer set search_path = ''
as $$
begin
  insert into public.room_participants (room_id, user_id)
  values (new.id, new.created_by) on conflict do nothing;
  return new;
end;
$$;
create trigger rooms_add_creator
  after insert on public.rooms
  for each row execute function public.add_creator();

alter table public.profiles enable row level security;
alter table public.rooms enable row level security;
alter table public.room_participants enable row level security;
alter table public.messages enable row level security;

create policy "Public profiles are viewable by everyone" on public.profiles
  for select using (true);
create policy "Users can update own profile" on public.profiles
  for update to authenticated using ((select auth.uid()) = id);

create policy "Open rooms and own rooms are visible" on public.rooms
  for select to authenticated
  using (not is_private or public.is_room_participant(id)
    or created_by = (select auth.uid()));
create policy "Users can create rooms" on public.rooms
  for insert to authenticated with check (created_by = (select auth.uid()));
create policy "Creators can update their rooms" on public.rooms
  for update to authenticated
  using (created_by = (select auth.uid()))
  with check (created_by = (select auth.uid()));
create policy "Creators can delete their rooms" on public.rooms
  for delete to authenticated using (created_by = (select auth.uid()));

create policy "Participants can see who is in the room" on public.room_participants
  for select to authenticated
  using (public.is_room_participant(room_id) or user_id = (select auth.uid()));
create policy "Users can join open rooms" on public.room_participants
  for insert to authenticated
  with check (user_id = (select auth.uid())
    and exists (select 1 from public.rooms r
                where r.id = room_id and not r.is_private));
create policy "Creators can invite" on public.room_participants
  for insert to authenticated
  with check (exists (select 1 from public.rooms r
                      where r.id = room_id and r.created_by = (select auth.uid())));
create policy "Users can leave rooms" on public.room_participants
  for delete to authenticated using (user_id = (select auth.uid()));

create policy "Participants can read messages" on public.messages
  for select to authenticated using (public.is_room_participant(room_id));
create policy "Participants can send messages" on public.messages
  for insert to authenticated
  with check (user_id = (select auth.uid()) and public.is_room_participant(room_id));
create policy "Authors can edit their messages" on public.messages
  for update to authenticated
  using (user_id = (select auth.uid()) and public.is_room_participant(room_id));
create policy "Authors can delete their messages" on public.messages
  for delete to authenticated using (user_id = (select auth.uid()));

create policy "Participants can listen" on realtime.messages
  for select to authenticated
  using (realtime.topic() like 'room:%'
    and public.is_room_participant(split_part(realtime.topic(), ':', 2)::uuid));
create policy "Participants can speak" on realtime.messages
  for insert to authenticated
  with check (realtime.topic() like 'room:%'
    and public.is_room_participant(split_part(realtime.topic(), ':', 2)::uuid));

alter publication supabase_realtime add table public.messages;
