-- Support desk: customers open tickets by e-mail claim or account; agents belong to desks; internal notes; tenancy through app_metadata
create table public.desks (id uuid primary key default gen_random_uuid(), tenant_id uuid not null, name text not null);
create table public.agents (user_id uuid not null references auth.users on delete cascade, desk_id uuid not null references public.desks on delete cascade, tenant_id uuid not null, lead boolean not null default false, primary key (user_id, desk_id));
create table public.tickets (id bigint generated always as identity primary key, tenant_id uuid not null, desk_id uuid not null references public.desks, customer_id uuid not null references auth.users, assignee_id uuid references auth.users, subject text not null, priority text not null default 'normal' check (priority in ('low','normal','high')), status text not null default 'open' check (status in ('open','pending','solved')));
create table public.ticket_messages (id bigint generated always as identity primary key, ticket_id bigint not null references public.tickets on delete cascade, author_id uuid not null references auth.users, internal boolean not null default false, body text not null);
create table public.attachments (id uuid primary key default gen_random_uuid(), message_id bigint not null references public.ticket_messages on delete cascade, object_path text not null);
create table public.macros (id uuid primary key default gen_random_uuid(), tenant_id uuid not null, title text not null, body text not null);
create table public.satisfaction (ticket_id bigint primary key references public.tickets on delete cascade, score int not null check (score between 1 and 5), remark text);
create index on public.tickets (desk_id); create index on public.tickets (customer_id); create index on public.ticket_messages (ticket_id); create index on public.attachments (message_id); create index on public.agents (desk_id); create index on public.desks (tenant_id); create index on public.macros (tenant_id); create index on public.tickets (tenant_id);
create or replace function public.tenant_id() returns uuid language sql stable set search_path = '' as $$ select ((select auth.jwt()) #>> '{app_metadata,tenant_id}')::uuid $$;
create or replace function public.is_agent(_desk uuid) returns boolean language sql stable security definer set search_path = '' as $$ select exists (select 1 from public.agents a where a.desk_id = _desk and a.user_id = (select auth.uid()) and a.tenant_id = (select public.tenant_id())) $$;
create or replace function public.ticket_access(_ticket bigint) returns text language sql stable security definer set search_path = '' as $$
  select case when t.customer_id = (select auth.uid()) then 'customer' when public.is_agent(t.desk_id) then 'agent' end from public.tickets t where t.id = _ticket $$;
do $do$ declare r record; begin
  for r in select c.oid::regclass as t from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' loop
    execute format('alter table %s enable row level security', r.t); execute format('revoke truncate, trigger, references on %s from anon, authenticated', r.t); execute format('revoke all on %s from anon', r.t);
  end loop; end $do$;
create policy p_desks on public.desks for select to authenticated using (tenant_id = (select public.tenant_id()));
create policy p_agents on public.agents for select to authenticated using (tenant_id = (select public.tenant_id()) and (user_id = (select auth.uid()) or public.is_agent(desk_id)));
create policy p_tickets_customer on public.tickets for select to authenticated using (customer_id = (select auth.uid()));
create policy p_tickets_agent on public.tickets for select to authenticated using (tenant_id = (select public.tenant_id()) and public.is_agent(desk_id));
create policy p_tickets_open on public.tickets for insert to authenticated with check (customer_id = (select auth.uid()) and tenant_id = (select public.tenant_id()) and assignee_id is null and status = 'open' and exists (select 1 from public.desks d where d.id = desk_id and d.tenant_id = tickets.tenant_id));
create policy p_tickets_work on public.tickets for update to authenticated using (tenant_id = (select public.tenant_id()) and public.is_agent(desk_id)) with check (tenant_id = (select public.tenant_id()) and public.is_agent(desk_id));
revoke update on public.tickets from authenticated; grant update (assignee_id, priority, status) on public.tickets to authenticated;
create policy p_messages_read on public.ticket_messages for select to authenticated using (case public.ticket_access(ticket_id) when 'agent' then true when 'customer' then not internal else false end);
create policy p_messages_write on public.ticket_messages for insert to authenticated with check (author_id = (select auth.uid()) and case public.ticket_access(ticket_id) when 'agent' then true when 'customer' then not internal else false end);
create policy p_attachments_read on public.attachments for select to authenticated using (exists (select 1 from public.ticket_messages m where m.id = message_id));
create policy p_attachments_add on public.attachments for insert to authenticated with check (exists (select 1 from public.ticket_messages m where m.id = message_id and m.author_id = (select auth.uid())));
create policy p_macros on public.macros for all to authenticated using (tenant_id = (select public.tenant_id()) and exists (select 1 from public.agents a where a.user_id = (select auth.uid()) and a.tenant_id = macros.tenant_id)) with check (tenant_id = (select public.tenant_id()) and exists (select 1 from public.agents a where a.user_id = (select auth.uid()) and a.tenant_id = macros.tenant_id));
create policy p_satisfaction_read on public.satisfaction for select to authenticated using (public.ticket_access(ticket_id) is not null);
create policy p_satisfaction_rate on public.satisfaction for insert to authenticated with check (exists (select 1 from public.tickets t where t.id = ticket_id and t.customer_id = (select auth.uid()) and t.status = 'solved'));
create policy p_satisfaction_rerate on public.satisfaction for update to authenticated using (public.ticket_access(ticket_id) = 'customer') with check (public.ticket_access(ticket_id) = 'customer');
revoke update on public.satisfaction from authenticated; grant update (score, remark) on public.satisfaction to authenticated;
insert into storage.buckets (id, name, public) values ('attachments', 'attachments', false);
create policy p_files_read on storage.objects for select to authenticated using (bucket_id = 'attachments' and exists (select 1 from public.attachments a where a.object_path = storage.objects.name));
create policy p_files_add on storage.objects for insert to authenticated with check (bucket_id = 'attachments' and (storage.foldername(name))[1] = (select public.tenant_id())::text and (storage.foldername(name))[2] = (select auth.uid())::text);
