-- Multi-level organisation: units form a tree (ltree); a grant on a unit holds for everything below it
create extension if not exists ltree with schema extensions;
create schema authz;
create table public.units (id uuid primary key default gen_random_uuid(), path extensions.ltree not null unique, name text not null);
create index on public.units using gist (path);
create table public.unit_grants (user_id uuid not null references auth.users(id) on delete cascade, unit_id uuid not null references public.units(id) on delete cascade, level smallint not null check (level between 1 and 3), primary key (user_id, unit_id));
create table public.employees (id uuid primary key default gen_random_uuid(), user_id uuid unique references auth.users(id), unit_id uuid not null references public.units(id), full_name text not null, manager_id uuid references public.employees(id));
create table public.salaries (employee_id uuid primary key references public.employees(id) on delete cascade, amount int not null, currency text not null default 'CHF');
create table public.leave_requests (id bigserial primary key, employee_id uuid not null references public.employees(id) on delete cascade, starts date not null, ends date not null, state text not null default 'open' check (state in ('open','granted','refused')), check (ends >= starts));
create index on public.employees(unit_id); create index on public.leave_requests(employee_id); create index on public.unit_grants(unit_id); create index on public.employees(manager_id);
create function authz.level_on(u uuid) returns smallint language sql stable security definer set search_path = '' as $$
  select coalesce(max(g.level), 0::smallint) from public.units t
    join public.units a on a.path operator(extensions.@>) t.path
    join public.unit_grants g on g.unit_id = a.id
   where t.id = u and g.user_id = auth.uid() $$;
create function authz.employee_unit(e uuid) returns uuid language sql stable security definer set search_path = '' as $$ select unit_id from public.employees where id = e $$;
create function authz.is_self(e uuid) returns boolean language sql stable security definer set search_path = '' as $$ select exists (select 1 from public.employees where id = e and user_id = auth.uid()) $$;
grant usage on schema authz to authenticated; revoke execute on all functions in schema authz from public; grant execute on all functions in schema authz to authenticated;
alter table public.units enable row level security; alter table public.unit_grants enable row level security; alter table public.employees enable row level security; alter table public.salaries enable row level security; alter table public.leave_requests enable row level security;
revoke all on all tables in schema public from anon, authenticated;
grant select, insert, update, delete on public.units, public.unit_grants, public.employees, public.salaries to authenticated;
grant select, insert (employee_id, starts, ends), update (state), delete on public.leave_requests to authenticated;
grant usage on sequence public.leave_requests_id_seq to authenticated;
create policy units_select on public.units for select to authenticated using (authz.level_on(id) >= 1);
create policy units_update on public.units for update to authenticated using (authz.level_on(id) >= 3) with check (authz.level_on(id) >= 3);
revoke update on public.units from authenticated; grant update (name) on public.units to authenticated;
create policy grants_select on public.unit_grants for select to authenticated using (user_id = (select auth.uid()) or authz.level_on(unit_id) >= 3);
create policy grants_insert on public.unit_grants for insert to authenticated with check (authz.level_on(unit_id) >= 3);
create policy grants_delete on public.unit_grants for delete to authenticated using (authz.level_on(unit_id) >= 3);
create policy employees_select on public.employees for select to authenticated using (user_id = (select auth.uid()) or authz.level_on(unit_id) >= 1);
create policy employees_write on public.employees for all to authenticated using (authz.level_on(unit_id) >= 2) with check (authz.level_on(unit_id) >= 2);
create policy salaries_select on public.salaries for select to authenticated using (authz.is_self(employee_id) or authz.level_on(authz.employee_unit(employee_id)) >= 2);
create policy salaries_write on public.salaries for update to authenticated using (authz.level_on(authz.employee_unit(employee_id)) >= 3) with check (authz.level_on(authz.employee_unit(employee_id)) >= 3);
create policy leave_select on public.leave_requests for select to authenticated using (authz.is_self(employee_id) or authz.level_on(authz.employee_unit(employee_id)) >= 2);
create policy leave_insert on public.leave_requests for insert to authenticated with check (authz.is_self(employee_id) and state = 'open');
create policy leave_decide on public.leave_requests for update to authenticated using (authz.level_on(authz.employee_unit(employee_id)) >= 2 and not authz.is_self(employee_id)) with check (authz.level_on(authz.employee_unit(employee_id)) >= 2);
create policy leave_withdraw on public.leave_requests for delete to authenticated using (authz.is_self(employee_id) and state = 'open');
