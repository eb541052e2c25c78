-- Households: invitations with tokens, wallets and transfers behind definer functions, devices, topics.
create table public.people (
  id uuid primary key references auth.users (id) on delete cascade, full_name text, phone text
);
create table public.households (id uuid primary key default gen_random_uuid(), name text not null, created_by uuid not null references public.people (id));
create table public.household_people (
  household_id uuid not null references public.households (id) on delete cascade, person_id uuid not null references public.people (id) on delete cascade,
  joined_at timestamptz not null default now(), primary key (household_id, person_id)
);
create table public.invites (
  id uuid primary key default gen_random_uuid(), household_id uuid not null references public.households (id) on delete cascade,
  invited_email text not null, invited_by uuid not null references public.people (id), token text not null unique default encode(extensions.gen_random_bytes(16), 'hex'),
  accepted_at timestamptz
);
create table public.wallets (
  person_id uuid primary key references public.people (id) on delete cascade, balance bigint not null default 0 check (balance >= 0)
);
create table public.transfers (
  id uuid primary key default gen_random_uuid(), from_person uuid not null references public.people (id), to_person uuid not null references public.people (id),
  amount bigint not null check (amount > 0), note text, made_at timestamptz not null default now()
);
create table public.devices (
  id uuid primary key default gen_random_uuid(), person_id uuid not null references public.people (id) on delete cascade, push_token text not null unique
);
create table public.notifications (
  id bigint generated always as identity primary key, person_id uuid not null references public.people (id) on delete cascade,
  kind text not null, payload jsonb not null default '{}', seen boolean not null default false
);
create function public.in_household(h uuid) returns boolean language sql stable security definer set search_path = public
as $$ select exists (select 1 from household_people hp where hp.household_id = h and hp.person_id = (select auth.uid())) $$;

create function public.accept_invite(p_token text) returns uuid language plpgsql security definer set search_path = '' as $$
declare inv public.invites;
begin
  select * into inv from public.invites i where i.token = p_token and i.accepted_at is null for update;
  if inv.id is null or inv.invited_email is distinct from (auth.jwt() ->> 'email') then
    raise exception 'no such invitation' using errcode = 'P0002';
  end if;
  insert into public.household_people (household_id, person_id) values (inv.household_id, auth.uid()) on conflict do nothing;
  update public.invites set accepted_at = now() where id = inv.id;
  return inv.household_id;
end $$;
create function public.send_money(p_to uuid, p_amount bigint, p_note text default null) returns uuid language plpgsql security definer set search_path = '' as $$
declare made uuid;
begin
  if auth.uid() is null then raise exception 'not signed in' using errcode = '42501'; end if;
  if p_amount <= 0 then raise exception 'amount must be positive' using errcode = '22023'; end if;
  update public.wallets set balance = balance - p_amount where person_id = auth.uid();
  update public.wallets set balance = balance + p_amount where person_id = p_to;
  insert into public.transfers (from_person, to_person, amount, note) values (auth.uid(), p_to, p_amount, p_note) returning id into made;
  return made;
end $$;
create function public.mark_seen(p_ids bigint[]) returns void language sql security definer set search_path = ''
as $$ update public.notifications set seen = true where id = any (p_ids) and person_id = auth.uid() $$;
create function public.create_household(p_name text) returns uuid language plpgsql security definer set search_path = '' as $$
declare h uuid;
begin
  if auth.uid() is null then raise exception 'not signed in' using errcode = '42501'; end if;
  insert into public.households (name, created_by) values (p_name, auth.uid()) returning id into h;
  insert into public.household_people (household_id, person_id) values (h, auth.uid());
  return h;
end $$;
create function public.leave_household(p_household uuid) returns void language plpgsql security definer set search_path = '' as $$
begin
  delete from public.household_people where household_id = p_household and person_id = auth.uid();
end $$;
create function public.household_roster(p_household uuid) returns table (person_id uuid, full_name text) language sql stable security definer set search_path = ''
as $$ select p.id, p.full_name from public.household_people hp join public.people p on p.id = hp.person_id
  where hp.household_id = p_household and public.in_household(p_household) $$;
revoke execute on all functions in schema public from public, anon;

alter table public.people enable row level security;
alter table public.households enable row level security;
alter table public.household_people enable row level security;
alter table public.invites enable row level security;
alter table public.wallets enable row level security;
alter table public.transfers enable row level security;
alter table public.devices enable row level security;
alter table public.notifications enable row level security;
create policy people_self on public.people for all to authenticated using (id = auth.uid()) with check (id = auth.uid());
create policy people_housemates on public.people for select to authenticated using (exists (
  select 1 from public.household_people a where a.person_id = people.id and public.in_household(a.household_id)));
create policy households_see on public.households for select to authenticated using (public.in_household(id));
create policy households_edit on public.households for update to authenticated using (created_by = auth.uid()) with check (created_by = auth.uid());
create policy hp_see on public.household_people for select to authenticated using (public.in_household(household_id));
create policy invites_see on public.invites for select to authenticated using (invited_by = auth.uid());
create policy invites_send on public.invites for insert to authenticated
  with check (invited_by = auth.uid() and public.in_household(household_id) and accepted_at is null);
create policy invites_withdraw on public.invites for delete to authenticated using (invited_by = auth.uid() and accepted_at is null);
create policy wallet_own on public.wallets for select to authenticated using (person_id = auth.uid());
create policy transfers_own on public.transfers for select to authenticated using (auth.uid() = from_person or auth.uid() = to_person);
create policy devices_own on public.devices for all to authenticated using (person_id = auth.uid()) with check (person_id = auth.uid());
create policy notifications_own on public.notifications for select to authenticated using (person_id = auth.uid());
alter publication supabase_realtime add table public.notifications;
create policy own_topic on realtime.messages for select to authenticated using (realtime.topic() = 'person:' || auth.uid()::text);
create policy household_topic on realtime.messages for select to authenticated using (
  exists (select 1 from public.household_people hp where hp.person_id = auth.uid() and realtime.topic() = 'household:' || hp.household_id::text));
