-- Booking: salons publish slots, customers book them; overlapping bookings are excluded
create extension if not exists btree_gist with schema extensions;
create table public.salons (id uuid primary key default gen_random_uuid(), owner_id uuid not null references auth.users(id) on delete cascade, name text not null, timezone text not null default 'UTC', is_active boolean not null default true);
create table public.services (id uuid primary key default gen_random_uuid(), salon_id uuid not null references public.salons(id) on delete cascade, name text not null, minutes int not null check (minutes > 0 and minutes <= 480), price_cents int not null check (price_cents >= 0));
create table public.staff_members (salon_id uuid not null references public.salons(id) on delete cascade, user_id uuid not null references auth.users(id) on delete cascade, can_manage boolean not null default false, primary key (salon_id, user_id));
create table public.bookings (id uuid primary key default gen_random_uuid(), salon_id uuid not null references public.salons(id) on delete cascade, service_id uuid not null references public.services(id), customer_id uuid not null references auth.users(id) on delete cascade, during tstzrange not null check (not isempty(during) and lower(during) is not null and upper(during) is not null), status text not null default 'requested' check (status in ('requested','confirmed','cancelled')), customer_note text,
  exclude using gist (salon_id with =, during with &&) where (status <> 'cancelled'));
create table public.customer_cards (salon_id uuid not null references public.salons(id) on delete cascade, customer_id uuid not null references auth.users(id) on delete cascade, remarks text, primary key (salon_id, customer_id));
create table public.invitations (id uuid primary key default gen_random_uuid(), salon_id uuid not null references public.salons(id) on delete cascade, email text not null, token uuid not null default gen_random_uuid() unique, accepted_at timestamptz);
create index on public.services(salon_id); create index on public.staff_members(user_id); create index on public.bookings(customer_id); create index on public.bookings(salon_id); create index on public.customer_cards(customer_id); create index on public.invitations(salon_id); create index on public.salons(owner_id);
alter table public.salons enable row level security; alter table public.services enable row level security; alter table public.staff_members enable row level security; alter table public.bookings enable row level security; alter table public.customer_cards enable row level security; alter table public.invitations enable row level security;
create or replace function public.works_at(_salon_id uuid) returns boolean language plpgsql stable security definer set search_path = public as $$
begin
  return exists (select 1 from salons s where s.id = _salon_id and s.owner_id = auth.uid()) or exists (select 1 from staff_members m where m.salon_id = _salon_id and m.user_id = auth.uid());
end $$;
create or replace function public.manages(_salon_id uuid) returns boolean language plpgsql stable security definer set search_path = public as $$
begin
  return exists (select 1 from salons s where s.id = _salon_id and s.owner_id = auth.uid()) or exists (select 1 from staff_members m where m.salon_id = _salon_id and m.user_id = auth.uid() and m.can_manage);
end $$;
create or replace function public.accept_invitation(_token uuid) returns uuid language plpgsql security definer set search_path = public as $$
declare inv invitations;
begin
  select * into inv from invitations i where i.token = _token and i.accepted_at is null and lower(i.email) = lower(auth.jwt() ->> 'email') for update;
  if not found then raise exception 'invitation not found' using errcode = 'P0002'; end if;
  insert into staff_members (salon_id, user_id) values (inv.salon_id, auth.uid()) on conflict do nothing;
  update invitations set accepted_at = now() where id = inv.id;
  return inv.salon_id;
end $$;
create or replace function public.cancel_booking(_id uuid) returns void language plpgsql security definer set search_path = public as $$
begin
  update bookings b set status = 'cancelled' where b.id = _id and (b.customer_id = auth.uid() or works_at(b.salon_id));
  if not found then raise exception 'not found' using errcode = 'P0002'; end if;
end $$;
revoke execute on function public.accept_invitation(uuid), public.cancel_booking(uuid) from public, anon; grant execute on function public.accept_invitation(uuid), public.cancel_booking(uuid) to authenticated;
create policy "salons: public read" on public.salons for select to anon, authenticated using (is_active);
create policy "salons: owner reads" on public.salons for select to authenticated using (owner_id = auth.uid());
create policy "salons: owner creates" on public.salons for insert to authenticated with check (owner_id = auth.uid());
create policy "salons: owner updates" on public.salons for update to authenticated using (owner_id = auth.uid()) with check (owner_id = auth.uid());
create policy "services: public read" on public.services for select to anon, authenticated using (true);
create policy "services: managers write" on public.services for all to authenticated using (public.manages(salon_id)) with check (public.manages(salon_id));
create policy "staff: colleagues" on public.staff_members for select to authenticated using (public.works_at(salon_id));
create policy "staff: managers" on public.staff_members for delete to authenticated using (public.manages(salon_id));
create policy "bookings: customer reads" on public.bookings for select to authenticated using (customer_id = auth.uid());
create policy "bookings: staff reads" on public.bookings for select to authenticated using (public.works_at(salon_id));
create policy "bookings: customer requests" on public.bookings for insert to authenticated with check (customer_id = auth.uid() and status = 'requested' and exists (select 1 from public.services s where s.id = service_id and s.salon_id = bookings.salon_id));
create policy "bookings: staff updates" on public.bookings for update to authenticated using (public.works_at(salon_id)) with check (public.works_at(salon_id));
revoke update on public.bookings from anon, authenticated; grant update (status) on public.bookings to authenticated;
create policy "cards: staff" on public.customer_cards for all to authenticated using (public.works_at(salon_id)) with check (public.works_at(salon_id) and exists (select 1 from public.bookings b where b.salon_id = customer_cards.salon_id and b.customer_id = customer_cards.customer_id));
create policy "invitations: managers" on public.invitations for all to authenticated using (public.manages(salon_id)) with check (public.manages(salon_id) and accepted_at is null);
revoke truncate on all tables in schema public from anon, authenticated;
alter publication supabase_realtime add table public.bookings;
