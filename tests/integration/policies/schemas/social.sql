-- Social network: private accounts, follow requests, blocks, direct messages.

create table public.profiles (
  id uuid primary key references auth.users (id) on delete cascade,
  handle text not null unique check (handle ~ '^[a-z0-9_]{3,30}$'),
  is_private boolean not null default false
);

create table public.follows (
  follower_id uuid not null default auth.uid() references public.profiles (id)
    on delete cascade,
  followed_id uuid not null references public.profiles (id) on delete cascade,
  status text not null default 'pending' check (status in ('pending', 'accepted')),
  primary key (follower_id, followed_id),
  check (follower_id <> followed_id)
);

create table public.posts (
  id bigint generated always as identity primary key,
  author_id uuid not null default auth.uid() references public.profiles (id)
    on delete cascade,
  body text not null,
  created_at timestamptz not null default now()
);

create table public.direct_messages (
  id bigint generated always as identity primary key,
  sender_id uuid not null default auth.uid() references public.profiles (id),
  recipient_id uuid not null references public.profiles (id),
  body text not null,
  read_at timestamptz
);

create table public.blocks (
  blocker_id uuid not null default auth.uid() references public.profiles (id),
  blocked_id uuid not null references public.profiles (id),
  primary key (blocker_id, blocked_id)
);

create table public.notifications (
  id bigint generated always as identity primary key,
  user_id uuid not null references public.profiles (id) on delete cascade,
  kind text not null,
  read boolean not null default false
);

create function public.may_see_profile(target uuid)
returns boolean language sql stable security definer set search_path = ''
as $$
  select target = (select auth.uid())
    or exists (select 1 from public.profiles p
               where p.id = target and not p.is_private)
    or exists (select 1 from public.follows f
               where f.followed_id = target and f.follower_id = (select auth.uid())
                 and f.status = 'accepted');
$$;

create function public.notify_followed()
returns trigger language plpgsql security definer set search_path = ''
as $$
begin
  insert into public.notifications (user_id, kind) values (new.followed_id, 'follow');
  return new;
end;
$$;
create trigger follows_notify after insert on public.follows
  for each row execute function public.notify_followed();

alter table public.profiles enable row level security;
alter table public.follows enable row level security;
alter table public.posts enable row level security;
alter table public.direct_messages enable row level security;
alter table public.blocks enable row level security;
alter table public.notifications enable row level security;

create policy "Profiles can be looked up" on public.profiles
  for select to authenticated using (true);
create policy "Own profile insert" on public.profiles for insert to authenticated
  with check (id = (select auth.uid()));
create policy "Own profile update" on public.profiles for update to authenticated
  using (id = (select auth.uid())) with check (id = (select auth.uid()));

create policy "Both sides see a follow" on public.follows for select to authenticated
  using ((select auth.uid()) in (follower_id, followed_id));
create policy "Request to follow" on public.follows for insert to authenticated
  with check (follower_id = (select auth.uid()) and (status = 'pending' or exists (
    select 1 from public.profiles p where p.id = followed_id and not p.is_private)));
create policy "Accept a request" on public.follows for update to authenticated
  using (followed_id = (select auth.uid()))
  with check (followed_id = (select auth.uid()));
create policy "Either side ends a follow" on public.follows for delete to authenticated
  using ((select auth.uid()) in (follower_id, followed_id));

create policy "Posts of visible profiles" on public.posts for select to authenticated
  using (public.may_see_profile(author_id));
create policy "Write own posts" on public.posts for insert to authenticated
  with check (author_id = (select auth.uid()));
create policy "Edit own posts" on public.posts for update to authenticated
  using (author_id = (select auth.uid())) with check (author_id = (select auth.uid()));
create policy "Delete own posts" on public.posts for delete to authenticated
  using (author_id = (select auth.uid()));

create policy "Conversation partners read" on public.direct_messages
  for select to authenticated
  using (sender_id = (select auth.uid()) or recipient_id = (select auth.uid()));
create policy "Send as yourself" on public.direct_messages for insert to authenticated
  with check (sender_id = (select auth.uid()) and not exists (
    select 1 from public.blocks b
    where b.blocker_id = recipient_id and b.blocked_id = (select auth.uid())));
create policy "Recipient marks as read" on public.direct_messages
  for update to authenticated
  using (recipient_id = (select auth.uid()))
  with check (recipient_id = (select auth.uid()));

create policy "Own blocks" on public.blocks for all to authenticated
  using (blocker_id = (select auth.uid()))
  with check (blocker_id = (select auth.uid()));

create policy "Own notifications" on public.notifications for select to authenticated
  using (user_id = (select auth.uid()));
create policy "Mark own notifications" on public.notifications
  for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
