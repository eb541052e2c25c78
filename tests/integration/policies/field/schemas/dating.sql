-- dating app (matching, chat, photos). 18+ only.
create schema if not exists hidden;
create type gender_t as enum ('f','m','x');
create table members (
  user_id uuid primary key references auth.users (id) on delete cascade,
  nickname text not null check (nickname <> ''),
  gender gender_t not null default 'x',
  birthdate date not null check (birthdate < date '2009-01-01'),
  about text,
  paused boolean not null default false,
  verified boolean not null default false,
  is_staff boolean not null default false
);
create table member_private (
  user_id uuid primary key references members on delete cascade,
  phone text unique, real_name text, home_lat numeric(8,5), home_lng numeric(8,5)
);
create table swipes (
  swiper uuid not null references members (user_id) on delete cascade,
  swiped uuid not null references members (user_id) on delete cascade,
  liked boolean not null,
  at timestamptz not null default now(),
  primary key (swiper, swiped),
  constraint not_self check (swiper <> swiped)
);
create table matches (
  id bigint generated always as identity primary key,
  user_a uuid not null references members (user_id) on delete cascade,
  user_b uuid not null references members (user_id) on delete cascade,
  unmatched_at timestamptz,
  unique (user_a, user_b),
  check (user_a < user_b)
);
create table match_messages (
  id bigint generated always as identity primary key,
  match_id bigint not null references matches on delete cascade,
  sender uuid not null references members (user_id) on delete cascade,
  body text not null check (length(body) <= 2000),
  sent_at timestamptz not null default now()
);
create table blocks (
  blocker uuid not null references members (user_id) on delete cascade,
  blocked uuid not null references members (user_id) on delete cascade,
  primary key (blocker, blocked)
);
create table photos (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references members on delete cascade,
  path text not null, nsfw boolean not null default false, approved boolean not null default false
);
create table abuse_reports (
  id bigint generated always as identity primary key,
  reporter uuid not null default auth.uid() references members (user_id) on delete cascade,
  accused uuid not null references members (user_id) on delete cascade,
  reason text not null, handled_by uuid references members (user_id)
);
create index on swipes (swiped); create index on matches (user_b); create index on match_messages (match_id); create index on match_messages (sender);
create index on blocks (blocked); create index on photos (user_id); create index on abuse_reports (reporter); create index on abuse_reports (accused);

create or replace function hidden.staff() returns boolean language sql stable security definer set search_path = public as
  $f$ select coalesce((select is_staff from members where user_id = auth.uid()), false) $f$;
create or replace function hidden.blocked_between(other uuid) returns boolean language sql stable security definer set search_path = public as
  $f$ select exists (select 1 from blocks where (blocker, blocked) = (auth.uid(), other) or (blocker, blocked) = (other, auth.uid())) $f$;
create or replace function hidden.my_matches() returns setof bigint language sql stable security definer set search_path = public as
  $f$ select id from matches where auth.uid() in (user_a, user_b) and unmatched_at is null $f$;
grant usage on schema hidden to authenticated;

create or replace function hidden.make_match() returns trigger language plpgsql security definer set search_path = public as $f$
begin
  if new.liked and exists (select 1 from swipes s where s.swiper = new.swiped and s.swiped = new.swiper and s.liked) then
    insert into matches (user_a, user_b) values (least(new.swiper, new.swiped), greatest(new.swiper, new.swiped)) on conflict do nothing;
  end if;
  return null;
end $f$;
create trigger make_match after insert or update on swipes for each row execute function hidden.make_match();
create or replace function hidden.freeze_member() returns trigger language plpgsql as $f$
begin
  if current_user = 'authenticated' and (new.verified <> old.verified or new.is_staff <> old.is_staff or new.user_id <> old.user_id) then
    raise exception 'not yours to change' using errcode = 'insufficient_privilege';
  end if;
  return new;
end $f$;
create trigger freeze_member before update on members for each row execute function hidden.freeze_member();

create or replace function unmatch(m bigint) returns void language plpgsql security definer set search_path = public as $f$
begin
  update matches set unmatched_at = now() where id = m and auth.uid() in (user_a, user_b);
end $f$;
create or replace function who_liked_me() returns table (member uuid, nickname text) language sql stable security definer set search_path = public as $f$
  select m.user_id, m.nickname from swipes s join members m on m.user_id = s.swiper
  where s.swiped = auth.uid() and s.liked and not m.paused
    and not exists (select 1 from swipes mine where mine.swiper = auth.uid() and mine.swiped = s.swiper) $f$;
create or replace function approve_photo(photo uuid) returns void language plpgsql security definer set search_path = public as $f$
begin
  if not hidden.staff() then raise exception 'staff only' using errcode = '42501'; end if;
  update photos set approved = true where id = photo;
end $f$;
revoke execute on function unmatch(bigint), who_liked_me(), approve_photo(uuid) from public, anon;

alter table members enable row level security; alter table member_private enable row level security; alter table swipes enable row level security; alter table matches enable row level security;
alter table match_messages enable row level security; alter table blocks enable row level security; alter table photos enable row level security; alter table abuse_reports enable row level security;

create policy browse on members for select to authenticated using (user_id = auth.uid() or (not paused and not hidden.blocked_between(user_id)));
create policy sign_up on members for insert to authenticated with check (user_id = auth.uid() and not verified and not is_staff);
create policy edit on members for update to authenticated using (user_id = auth.uid());
create policy private_own on member_private to authenticated using (user_id = auth.uid());
create policy my_swipes on swipes for select to authenticated using (swiper = auth.uid());
create policy swipe on swipes for insert to authenticated with check (swiper = auth.uid() and not hidden.blocked_between(swiped));
create policy reswipe on swipes for update to authenticated using (swiper = auth.uid()) with check (swiper = auth.uid() and not hidden.blocked_between(swiped));
create policy see_match on matches for select to authenticated using (auth.uid() in (user_a, user_b));
create policy read_messages on match_messages for select to authenticated using (match_id in (select hidden.my_matches()));
create policy send_message on match_messages for insert to authenticated with check (sender = auth.uid() and match_id in (select hidden.my_matches()));
create policy retract on match_messages for delete to authenticated using (sender = auth.uid());
create policy my_blocks on blocks for all to authenticated using (blocker = auth.uid()) with check (blocker = auth.uid());
create policy photos_own on photos for select to authenticated using (user_id = auth.uid() or hidden.staff());
create policy photos_browse on photos for select to authenticated using (approved and not nsfw and exists (select 1 from members m where m.user_id = photos.user_id));
create policy photos_add on photos for insert to authenticated with check (user_id = auth.uid() and not approved);
create policy photos_remove on photos for delete to authenticated using (user_id = auth.uid());
create policy report on abuse_reports for insert to authenticated with check (reporter = auth.uid() and handled_by is null);
create policy reports_seen on abuse_reports for select to authenticated using (reporter = auth.uid() or hidden.staff());
create policy reports_handled on abuse_reports for update to authenticated using (hidden.staff()) with check (hidden.staff() and handled_by = auth.uid());

revoke all on all tables in schema public from anon;
revoke truncate on all tables in schema public from authenticated;
revoke insert, update, delete on matches from authenticated;
revoke update on abuse_reports, photos from authenticated;
grant update (handled_by) on abuse_reports to authenticated;

insert into storage.buckets (id, name, public) values ('photos', 'photos', false), ('id-documents', 'id-documents', false);
create policy "photo upload" on storage.objects for insert to authenticated with check (bucket_id = 'photos' and auth.uid()::text = (storage.foldername(name))[1]);
create policy "photo view" on storage.objects for select to authenticated using (bucket_id = 'photos' and (auth.uid()::text = (storage.foldername(name))[1]
  or exists (select 1 from public.photos p where p.path = objects.name and p.approved)));
create policy "id upload" on storage.objects for insert to authenticated with check (bucket_id = 'id-documents' and auth.uid()::text = (storage.foldername(name))[1]);
create policy "id by staff" on storage.objects for select to authenticated using (bucket_id = 'id-documents' and hidden.staff());
create policy "match room in" on realtime.messages for select to authenticated using (realtime.topic() in (select 'match:' || m from hidden.my_matches() m));
create policy "match room out" on realtime.messages for insert to authenticated with check (realtime.topic() in (select 'match:' || m from hidden.my_matches() m));
alter publication supabase_realtime add table match_messages, matches;
