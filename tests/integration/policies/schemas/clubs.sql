-- Clubs: open ones to join, others to ask; officers, bans, things lent and handed over by a function.
create type public.club_role as enum ('member', 'officer');
create table public.clubs (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  is_open boolean not null default false,
  created_by uuid not null default auth.uid() references auth.users (id)
);
create table public.club_members (
  club_id uuid not null references public.clubs (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  role public.club_role not null default 'member',
  primary key (club_id, user_id)
);
create table public.join_requests (
  id uuid primary key default gen_random_uuid(),
  club_id uuid not null references public.clubs (id) on delete cascade,
  user_id uuid not null default auth.uid() references auth.users (id) on delete cascade,
  status text not null default 'pending' check (status in ('pending', 'approved', 'declined')),
  unique (club_id, user_id)
);
create table public.club_bans (
  club_id uuid not null references public.clubs (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  reason text,
  primary key (club_id, user_id)
);
create table public.club_posts (
  id uuid primary key default gen_random_uuid(),
  club_id uuid not null references public.clubs (id) on delete cascade,
  author_id uuid not null default auth.uid() references auth.users (id),
  body text not null
);
create table public.minutes (
  id uuid primary key default gen_random_uuid(),
  club_id uuid not null references public.clubs (id) on delete cascade,
  body text not null
);
create table public.things (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null default auth.uid() references auth.users (id),
  name text not null
);
create table public.handovers (
  id uuid primary key default gen_random_uuid(),
  thing_id uuid not null references public.things (id) on delete cascade,
  offered_by uuid not null default auth.uid() references auth.users (id),
  recipient_id uuid not null references auth.users (id),
  accepted_at timestamptz
);

create schema private;
grant usage on schema private to authenticated;
create function private.in_club(club uuid, wanted public.club_role[] default '{member,officer}')
returns boolean language sql stable security definer set search_path = ''
as $$ select exists (select 1 from public.club_members m
  where m.club_id = club and m.user_id = (select auth.uid()) and m.role = any (wanted)) $$;
create function private.is_banned(club uuid)
returns boolean language sql stable security definer set search_path = ''
as $$ select exists (select 1 from public.club_bans b
  where b.club_id = club and b.user_id = (select auth.uid())) $$;
create function private.may_join(club uuid)
returns boolean language sql stable security definer set search_path = ''
as $$ select exists (select 1 from public.clubs c where c.id = club and c.is_open)
  or exists (select 1 from public.join_requests r
    where r.club_id = club and r.user_id = (select auth.uid()) and r.status = 'approved') $$;
create function private.owns_thing(thing uuid)
returns boolean language sql stable security definer set search_path = ''
as $$ select exists (select 1 from public.things t
  where t.id = thing and t.owner_id = (select auth.uid())) $$;
create function public.accept_handover(handover uuid)
returns void language plpgsql security definer set search_path = '' as $$
declare offer public.handovers;
begin
  select * into offer from public.handovers h
    where h.id = handover and h.recipient_id = (select auth.uid()) and h.accepted_at is null;
  if offer.id is null then raise exception 'nothing to accept' using errcode = 'P0002'; end if;
  update public.things set owner_id = offer.recipient_id where id = offer.thing_id;
  update public.handovers set accepted_at = now() where id = offer.id;
end $$;
revoke execute on function public.accept_handover(uuid) from public, anon;

alter table public.clubs enable row level security;
alter table public.club_members enable row level security;
alter table public.join_requests enable row level security;
alter table public.club_bans enable row level security;
alter table public.club_posts enable row level security;
alter table public.minutes enable row level security;
alter table public.things enable row level security;
alter table public.handovers enable row level security;

create policy clubs_see on public.clubs for select to authenticated
  using (is_open or created_by = (select auth.uid()) or private.in_club(id));
create policy clubs_found on public.clubs for insert to authenticated
  with check (created_by = (select auth.uid()));
create policy clubs_edit on public.clubs for update to authenticated
  using (private.in_club(id, '{officer}')) with check (private.in_club(id, '{officer}'));
create policy members_see on public.club_members for select to authenticated
  using (private.in_club(club_id));
create policy members_join on public.club_members for insert to authenticated
  with check (user_id = (select auth.uid()) and role = 'member'
    and private.may_join(club_id) and not private.is_banned(club_id));
create policy members_manage on public.club_members for update to authenticated
  using (private.in_club(club_id, '{officer}')) with check (private.in_club(club_id, '{officer}'));
create policy members_leave on public.club_members for delete to authenticated
  using (user_id = (select auth.uid()) or private.in_club(club_id, '{officer}'));
create policy requests_see on public.join_requests for select to authenticated
  using (user_id = (select auth.uid()) or private.in_club(club_id, '{officer}'));
create policy requests_ask on public.join_requests for insert to authenticated
  with check (user_id = (select auth.uid()) and status = 'pending');
create policy requests_decide on public.join_requests for update to authenticated
  using (private.in_club(club_id, '{officer}')) with check (private.in_club(club_id, '{officer}'));
create policy requests_withdraw on public.join_requests for delete to authenticated
  using (user_id = (select auth.uid()));
create policy bans_see on public.club_bans for select to authenticated
  using (user_id = (select auth.uid()) or private.in_club(club_id, '{officer}'));
create policy bans_set on public.club_bans for insert to authenticated
  with check (private.in_club(club_id, '{officer}'));
create policy bans_lift on public.club_bans for delete to authenticated
  using (private.in_club(club_id, '{officer}') and user_id <> (select auth.uid()));
create policy posts_see on public.club_posts for select to authenticated
  using (private.in_club(club_id));
create policy posts_write on public.club_posts for insert to authenticated
  with check (author_id = (select auth.uid()) and private.in_club(club_id)
    and not private.is_banned(club_id));
create policy posts_edit on public.club_posts for update to authenticated
  using (author_id = (select auth.uid()) and private.in_club(club_id))
  with check (author_id = (select auth.uid()) and private.in_club(club_id));
create policy posts_remove on public.club_posts for delete to authenticated
  using (author_id = (select auth.uid()) or private.in_club(club_id, '{officer}'));
create policy minutes_officers on public.minutes for all to authenticated
  using (private.in_club(club_id, '{officer}')) with check (private.in_club(club_id, '{officer}'));
create policy things_own on public.things for all to authenticated
  using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
create policy handovers_see on public.handovers for select to authenticated
  using ((select auth.uid()) in (offered_by, recipient_id));
create policy handovers_offer on public.handovers for insert to authenticated
  with check (offered_by = (select auth.uid()) and private.owns_thing(thing_id) and accepted_at is null);
create policy handovers_withdraw on public.handovers for delete to authenticated
  using (offered_by = (select auth.uid()) and accepted_at is null);
