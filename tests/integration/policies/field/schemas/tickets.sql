-- event ticketing. money in cents, everything public is explicitly public.
create table organizers (
  id serial primary key, name varchar(120) not null, contact_email text,
  payout_iban text, created_at timestamp not null default now()
);
create table organizer_staff (
  id serial primary key,
  organizer_id int not null references organizers(id) on delete cascade,
  user_id uuid not null references auth.users(id) on delete cascade,
  role text not null default 'scanner' check (role in ('owner','manager','scanner')),
  unique (organizer_id, user_id)
);
create table events (
  id serial primary key,
  organizer_id int not null references organizers(id) on delete cascade,
  title text not null, starts_at timestamptz not null, status text not null default 'draft' check (status in ('draft','published','cancelled')),
  internal_notes text
);
create table ticket_types (
  id serial primary key,
  event_id int not null references events(id) on delete cascade,
  name text not null, price_cents int not null default 0 check (price_cents >= 0),
  quota int not null default 100, sold int not null default 0,
  constraint not_oversold check (sold <= quota)
);
create table orders (
  id uuid primary key default gen_random_uuid(),
  buyer_id uuid not null references auth.users(id),
  event_id int not null references events(id),
  total_cents int not null default 0 check (total_cents >= 0),
  status text not null default 'pending' check (status in ('pending','paid','refunded')),
  created_at timestamptz not null default now()
);
create table tickets (
  id uuid primary key default gen_random_uuid(),
  order_id uuid not null references orders(id) on delete cascade,
  ticket_type_id int not null references ticket_types(id),
  holder_id uuid not null references auth.users(id),
  code text not null unique default md5(gen_random_uuid()::text),
  checked_in_at timestamptz
);
create table promo_codes (
  organizer_id int not null references organizers(id) on delete cascade,
  code text not null,
  percent int not null check (percent between 1 and 100),
  uses_left int not null default 1 check (uses_left >= 0),
  primary key (organizer_id, code)
);
create table waitlist (
  event_id int not null references events(id) on delete cascade,
  user_id uuid not null default auth.uid() references auth.users(id) on delete cascade,
  email text not null,
  joined_at timestamptz not null default now(),
  primary key (event_id, user_id)
);
create index on organizer_staff(user_id); create index on events(organizer_id); create index on ticket_types(event_id);
create index on orders(buyer_id); create index on orders(event_id); create index on tickets(order_id); create index on tickets(holder_id); create index on waitlist(user_id);

create or replace function is_staff(org int, roles text[] default array['owner','manager','scanner']) returns boolean as $$
  select exists (select 1 from organizer_staff s where s.organizer_id = org and s.user_id = auth.uid() and s.role = any (roles));
$$ language sql stable security definer set search_path = public;
create or replace function event_org(ev int) returns int as $$
  select organizer_id from events where id = ev;
$$ language sql stable security definer set search_path = public;
revoke execute on function event_org(int) from public, anon;
grant execute on function event_org(int) to authenticated;

create or replace function create_organizer(org_name text) returns int as $$
declare new_id int;
begin
  if auth.uid() is null then raise exception 'sign in first' using errcode = '42501'; end if;
  insert into organizers (name) values (org_name) returning id into new_id;
  insert into organizer_staff (organizer_id, user_id, role) values (new_id, auth.uid(), 'owner');
  return new_id;
end $$ language plpgsql security definer set search_path = public;

create or replace function check_in(ticket_code text) returns timestamptz as $$
declare t tickets; org int; done timestamptz;
begin
  select * into t from tickets where code = ticket_code;
  select e.organizer_id into org from ticket_types tt join events e on e.id = tt.event_id where tt.id = t.ticket_type_id;
  if t.id is null or not is_staff(org) then raise exception 'unknown ticket' using errcode = 'P0002'; end if;
  if t.checked_in_at is not null then raise exception 'already used' using errcode = 'P0001'; end if;
  update tickets set checked_in_at = now() where id = t.id returning checked_in_at into done;
  return done;
end $$ language plpgsql security definer set search_path = public;

create or replace function transfer_ticket(ticket uuid, new_holder uuid) returns void as $$
begin
  update tickets set holder_id = new_holder, code = md5(gen_random_uuid()::text)
  where id = ticket and holder_id = auth.uid() and checked_in_at is null;
  if not found then raise exception 'not your ticket' using errcode = '42501'; end if;
end $$ language plpgsql security definer set search_path = public;

create or replace function event_attendees(ev int) returns table (ticket uuid, holder uuid, email text) as $$
  select t.id, t.holder_id, u.email::text from tickets t
  join ticket_types tt on tt.id = t.ticket_type_id
  join auth.users u on u.id = t.holder_id
  where tt.event_id = ev and is_staff(event_org(ev));
$$ language sql stable security definer set search_path = public;

create or replace function orders_guard() returns trigger as $$
begin
  if current_user in ('anon','authenticated') then
    new.status := 'pending';
    if tg_op = 'UPDATE' then new.buyer_id := old.buyer_id; new.event_id := old.event_id; new.total_cents := old.total_cents; new.status := old.status; end if;
  end if;
  return new;
end $$ language plpgsql;
create trigger orders_guard before insert or update on orders for each row execute procedure orders_guard();
revoke execute on function create_organizer(text), check_in(text), transfer_ticket(uuid, uuid), event_attendees(int) from public, anon;
grant execute on function create_organizer(text), check_in(text), transfer_ticket(uuid, uuid), event_attendees(int) to authenticated;

create view public_events with (security_invoker) as
  select e.id, e.title, e.starts_at, o.name as organizer from events e join organizers o on o.id = e.organizer_id where e.status = 'published';
create materialized view event_sales as
  select tt.event_id, sum(tt.sold) as sold, sum(tt.sold * tt.price_cents) as gross_cents from ticket_types tt group by tt.event_id;
revoke all on event_sales from anon, authenticated;

alter table organizers enable row level security; alter table organizer_staff enable row level security;
alter table events enable row level security; alter table ticket_types enable row level security;
alter table orders enable row level security; alter table tickets enable row level security;
alter table promo_codes enable row level security; alter table waitlist enable row level security;

create policy "anyone sees organizers" on organizers for select using (true);
create policy "owner edits organizer" on organizers for update to authenticated using (is_staff(id, array['owner'])) with check (is_staff(id, array['owner']));
create policy "staff sees staff" on organizer_staff for select to authenticated using (user_id = auth.uid() or is_staff(organizer_id));
create policy "owner manages staff" on organizer_staff for all to authenticated using (is_staff(organizer_id, '{owner}')) with check (is_staff(organizer_id, '{owner}'));
create policy "published events" on events for select using (status = 'published');
create policy "staff events" on events for select to authenticated using (is_staff(organizer_id));
create policy "managers insert events" on events for insert to authenticated with check (is_staff(organizer_id, '{owner,manager}'));
create policy "managers update events" on events for update to authenticated using (is_staff(organizer_id, '{owner,manager}')) with check (is_staff(organizer_id, '{owner,manager}'));
create policy "types of visible events" on ticket_types for select using (exists (select 1 from events e where e.id = event_id));
create policy "managers write types" on ticket_types for insert to authenticated with check (is_staff(event_org(event_id), '{owner,manager}'));
create policy "managers change types" on ticket_types for update to authenticated using (is_staff(event_org(event_id), '{owner,manager}')) with check (is_staff(event_org(event_id), '{owner,manager}'));
create policy "buyer orders" on orders for select to authenticated using (buyer_id = auth.uid());
create policy "staff sees orders" on orders for select to authenticated using (is_staff(event_org(event_id), '{owner,manager}'));
create policy "buyer creates order" on orders for insert to authenticated with check (buyer_id = auth.uid());
create policy "holder and buyer see tickets" on tickets for select to authenticated
  using (holder_id = auth.uid() or exists (select 1 from orders o where o.id = order_id and o.buyer_id = auth.uid()));
create policy "promo by managers" on promo_codes for all to authenticated using (is_staff(organizer_id, '{owner,manager}')) with check (is_staff(organizer_id, '{owner,manager}'));
create policy "waitlist own" on waitlist for select to authenticated using (user_id = auth.uid() or is_staff(event_org(event_id)));
create policy "waitlist join" on waitlist for insert to authenticated with check (user_id = auth.uid());
create policy "waitlist leave" on waitlist for delete to authenticated using (user_id = auth.uid());

revoke truncate on all tables in schema public from anon, authenticated;
revoke select on organizers, events from anon, authenticated;
grant select (id, name, contact_email, created_at) on organizers to anon, authenticated;
grant select (id, organizer_id, title, starts_at, status) on events to anon, authenticated;
revoke insert, update, delete on tickets from anon, authenticated;
revoke update on ticket_types from anon, authenticated;
grant update (name, price_cents, quota) on ticket_types to authenticated;

insert into storage.buckets (id, name, public) values ('banners', 'banners', true), ('tickets-pdf', 'tickets-pdf', false);
create policy "banner upload by managers" on storage.objects for insert to authenticated
  with check (bucket_id = 'banners' and exists (select 1 from public.organizer_staff s where s.user_id = auth.uid() and s.role <> 'scanner' and s.organizer_id::text = (storage.foldername(name))[1]));
create policy "banner delete by managers" on storage.objects for delete to authenticated
  using (bucket_id = 'banners' and exists (select 1 from public.organizer_staff s where s.user_id = auth.uid() and s.role <> 'scanner' and s.organizer_id::text = (storage.foldername(name))[1]));
create policy "banner list by managers" on storage.objects for select to authenticated
  using (bucket_id = 'banners' and exists (select 1 from public.organizer_staff s where s.user_id = auth.uid() and s.role <> 'scanner' and s.organizer_id::text = (storage.foldername(name))[1]));
create policy "own ticket pdf" on storage.objects for select to authenticated
  using (bucket_id = 'tickets-pdf' and exists (select 1 from public.tickets t where t.holder_id = auth.uid() and storage.filename(name) = t.id::text || '.pdf'));
