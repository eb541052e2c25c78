-- IoT: devices are claimed with a code, telemetry is partitioned, households share devices, realtime topics per device
create schema if not exists internal;
create type public.device_kind as enum ('sensor', 'lock', 'camera');
create domain public.claim_code as text check (value ~ '^[A-Z0-9]{8}$');
create table public.households (id bigint generated always as identity primary key, name text not null, created_by uuid not null default auth.uid() references auth.users (id));
create table public.household_members (household_id bigint not null references public.households (id) on delete cascade, user_id uuid not null references auth.users (id) on delete cascade, is_admin boolean not null default false, joined_at timestamptz not null default now(), primary key (household_id, user_id));
create table public.devices (serial text primary key, kind public.device_kind not null, household_id bigint references public.households (id) on delete set null, nickname text, firmware text not null default '1.0');
create table internal.claim_codes (serial text primary key references public.devices (serial) on delete cascade, code public.claim_code not null, used_by uuid references auth.users (id));
create table public.telemetry (serial text not null references public.devices (serial) on delete cascade, at timestamptz not null default now(), reading jsonb not null, primary key (serial, at)) partition by range (at);
create table public.telemetry_old partition of public.telemetry for values from (minvalue) to ('2025-01-01');
create table public.telemetry_new partition of public.telemetry for values from ('2025-01-01') to (maxvalue);
create table public.commands (id uuid primary key default gen_random_uuid(), serial text not null references public.devices (serial) on delete cascade, issued_by uuid not null references auth.users (id), command text not null check (command in ('on','off','lock','unlock')), executed_at timestamptz);
create table public.alerts (id bigint generated always as identity primary key, serial text not null references public.devices (serial) on delete cascade, message text not null, acknowledged_by uuid references auth.users (id));
create index on public.devices (household_id); create index on public.household_members (user_id); create index on public.commands (serial); create index on public.alerts (serial);

create function internal.my_households() returns bigint[] language sql stable security definer set search_path = '' as
$$ select coalesce(array_agg(m.household_id), '{}') from public.household_members m where m.user_id = (select auth.uid()) $$;
create function internal.admin_of(h bigint) returns boolean language sql stable security definer set search_path = '' as
$$ select exists (select 1 from public.household_members m where m.household_id = h and m.user_id = (select auth.uid()) and m.is_admin) $$;
create function internal.my_devices() returns setof text language sql stable security definer set search_path = '' as
$$ select d.serial from public.devices d where d.household_id = any (internal.my_households()) $$;
grant usage on schema internal to authenticated; revoke execute on all functions in schema internal from public; grant execute on all functions in schema internal to authenticated;
revoke all on all tables in schema internal from anon, authenticated;

create function public.add_creator() returns trigger language plpgsql security definer set search_path = '' as $$
begin insert into public.household_members (household_id, user_id, is_admin) values (new.id, new.created_by, true) on conflict do nothing; return new; end $$;
revoke execute on function public.add_creator() from public, anon, authenticated;
create trigger add_creator after insert on public.households for each row execute function public.add_creator();
create function public.stamp_issuer() returns trigger language plpgsql set search_path = '' as $$ begin new.issued_by := coalesce(auth.uid(), new.issued_by); return new; end $$;
create trigger stamp_issuer before insert on public.commands for each row execute function public.stamp_issuer();
create function public.claim_device(p_serial text, p_code text, p_household bigint) returns boolean language plpgsql security definer set search_path = '' as $$
begin
  if not internal.admin_of(p_household) then raise exception 'not an admin of this household' using errcode = '42501'; end if;
  update internal.claim_codes c set used_by = auth.uid() where c.serial = p_serial and c.code = p_code and c.used_by is null;
  if not found then return false; end if;
  update public.devices d set household_id = p_household where d.serial = p_serial and d.household_id is null;
  return found;
end $$;
revoke execute on function public.claim_device(text, text, bigint) from public, anon;

alter table public.households enable row level security; alter table public.household_members enable row level security; alter table public.devices enable row level security; alter table internal.claim_codes enable row level security; alter table public.telemetry enable row level security; alter table public.telemetry_old enable row level security; alter table public.telemetry_new enable row level security; alter table public.commands enable row level security; alter table public.alerts enable row level security;
create policy members_see on public.households for select to authenticated using (id = any (internal.my_households()) or created_by = (select auth.uid()));
create policy create_own on public.households for insert to authenticated with check (created_by = (select auth.uid()));
create policy admins_rename on public.households for update to authenticated using (internal.admin_of(id)) with check (internal.admin_of(id));
revoke update on public.households from anon, authenticated; grant update (name) on public.households to authenticated;
create policy members_see on public.household_members for select to authenticated using (household_id = any (internal.my_households()));
create policy admins_add on public.household_members for insert to authenticated with check (internal.admin_of(household_id));
create policy admins_or_self_remove on public.household_members for delete to authenticated using (internal.admin_of(household_id) or user_id = (select auth.uid()));
create policy members_see on public.devices for select to authenticated using (household_id = any (internal.my_households()));
create policy members_rename on public.devices for update to authenticated using (household_id = any (internal.my_households())) with check (household_id = any (internal.my_households()));
revoke insert, update, delete on public.devices from anon, authenticated; grant update (nickname) on public.devices to authenticated;
create policy members_see on public.telemetry for select to authenticated using (serial in (select internal.my_devices()));
revoke insert, update, delete on public.telemetry, public.telemetry_old, public.telemetry_new, public.alerts from anon, authenticated;
create policy members_see on public.commands for select to authenticated using (serial in (select internal.my_devices()));
create policy members_issue on public.commands for insert to authenticated with check (serial in (select internal.my_devices()) and executed_at is null);
create policy members_see on public.alerts for select to authenticated using (serial in (select internal.my_devices()));
create policy members_ack on public.alerts for update to authenticated using (serial in (select internal.my_devices())) with check (acknowledged_by = (select auth.uid()) and serial in (select internal.my_devices()));
grant update (acknowledged_by) on public.alerts to authenticated;
revoke truncate on all tables in schema public from anon, authenticated;
alter publication supabase_realtime add table public.alerts;
create policy device_topics_read on realtime.messages for select to authenticated using (extension in ('broadcast','presence') and split_part((select realtime.topic()), ':', 1) = 'device' and split_part((select realtime.topic()), ':', 2) in (select internal.my_devices()));
create policy device_topics_write on realtime.messages for insert to authenticated with check (extension = 'broadcast' and split_part((select realtime.topic()), ':', 1) = 'device' and split_part((select realtime.topic()), ':', 2) in (select internal.my_devices()));
