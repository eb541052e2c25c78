-- CRM: account-scoped with composite keys, soft delete, private fields by view, ownership stamped by triggers
create schema crm_private;
create table public.accounts (id int generated always as identity primary key, name text not null);
create table public.account_users (account_id int not null references public.accounts on delete cascade, user_id uuid not null references auth.users on delete cascade, is_admin boolean not null default false, disabled boolean not null default false, primary key (account_id, user_id));
create table public.contacts (account_id int not null references public.accounts on delete cascade, contact_no int not null, name text not null, email text, phone text, created_by uuid not null references auth.users, updated_by uuid references auth.users, deleted boolean not null default false, primary key (account_id, contact_no));
create table public.deals (account_id int not null, deal_no int not null, contact_no int, title text not null, amount money, owner_id uuid not null references auth.users, stage text not null default 'lead', primary key (account_id, deal_no), foreign key (account_id, contact_no) references public.contacts (account_id, contact_no), foreign key (account_id, owner_id) references public.account_users (account_id, user_id));
create table public.deal_activities (id uuid primary key default gen_random_uuid(), account_id int not null, deal_no int not null, actor_id uuid not null references auth.users, kind text not null check (kind in ('call','mail','meeting')), happened_at timestamptz not null default now(), foreign key (account_id, deal_no) references public.deals (account_id, deal_no) on delete cascade);
create table public.private_notes (id uuid primary key default gen_random_uuid(), account_id int not null, contact_no int not null, owner_id uuid not null default auth.uid() references auth.users, note text not null, foreign key (account_id, contact_no) references public.contacts (account_id, contact_no) on delete cascade);
create table crm_private.exports (id bigserial primary key, account_id int not null references public.accounts on delete cascade, payload jsonb not null);
create index on public.account_users (user_id); create index on public.deals (owner_id); create index on public.deal_activities (account_id, deal_no); create index on public.private_notes (owner_id);
create function crm_private.my_accounts() returns setof int language sql stable security definer set search_path = '' as $$ select account_id from public.account_users where user_id = (select auth.uid()) and not disabled $$;
create function crm_private.my_admin_accounts() returns setof int language sql stable security definer set search_path = '' as $$ select account_id from public.account_users where user_id = (select auth.uid()) and not disabled and is_admin $$;
grant usage on schema crm_private to authenticated; grant execute on all functions in schema crm_private to authenticated;
create function public.stamp_contact() returns trigger language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' then new.created_by := coalesce((select auth.uid()), new.created_by); else new.created_by := old.created_by; end if;
  new.updated_by := (select auth.uid());
  return new; end $$;
create trigger stamp_contact before insert or update on public.contacts for each row execute function public.stamp_contact();
create function public.merge_contacts(p_account int, p_keep int, p_drop int) returns void language plpgsql security definer set search_path = '' as $$
begin
  if p_account not in (select crm_private.my_admin_accounts()) then raise exception 'admins only' using errcode = '42501'; end if;
  update public.deals set contact_no = p_keep where account_id = p_account and contact_no = p_drop;
  update public.contacts set deleted = true where account_id = p_account and contact_no = p_drop;
end $$;
create function public.export_account(p_account int) returns jsonb language sql stable security definer set search_path = '' as $$
  select jsonb_agg(to_jsonb(c)) from public.contacts c where c.account_id = p_account and p_account in (select crm_private.my_admin_accounts()) $$;
revoke execute on function public.merge_contacts(int, int, int), public.export_account(int) from public, anon;
grant execute on function public.merge_contacts(int, int, int), public.export_account(int) to authenticated;
alter table public.accounts enable row level security; alter table public.account_users enable row level security; alter table public.contacts enable row level security; alter table public.deals enable row level security; alter table public.deal_activities enable row level security; alter table public.private_notes enable row level security; alter table crm_private.exports enable row level security;
create policy acc_isolation on public.accounts for select to authenticated using (id in (select crm_private.my_accounts()));
create policy users_read on public.account_users for select to authenticated using (account_id in (select crm_private.my_accounts()));
create policy users_admin on public.account_users for all to authenticated using (account_id in (select crm_private.my_admin_accounts())) with check (account_id in (select crm_private.my_admin_accounts()));
create policy contacts_read on public.contacts for select to authenticated using (account_id in (select crm_private.my_accounts()) and (not deleted or account_id in (select crm_private.my_admin_accounts())));
create policy contacts_add on public.contacts for insert to authenticated with check (account_id in (select crm_private.my_accounts()));
create policy contacts_edit on public.contacts for update to authenticated using (account_id in (select crm_private.my_accounts()) and not deleted) with check (account_id in (select crm_private.my_accounts()));
create policy deals_read on public.deals for select to authenticated using (account_id in (select crm_private.my_accounts()));
create policy deals_add on public.deals for insert to authenticated with check (account_id in (select crm_private.my_accounts()) and owner_id = (select auth.uid()));
create policy deals_edit on public.deals for update to authenticated using (owner_id = (select auth.uid()) and account_id in (select crm_private.my_accounts()) or account_id in (select crm_private.my_admin_accounts())) with check (owner_id = (select auth.uid()) and account_id in (select crm_private.my_accounts()) or account_id in (select crm_private.my_admin_accounts()));
create policy activities_read on public.deal_activities for select to authenticated using (account_id in (select crm_private.my_accounts()));
create policy activities_add on public.deal_activities for insert to authenticated with check (actor_id = (select auth.uid()) and account_id in (select crm_private.my_accounts()));
create policy notes_own on public.private_notes for all to authenticated using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()) and account_id in (select crm_private.my_accounts()));
create view public.contact_directory with (security_barrier, security_invoker) as select account_id, contact_no, name from public.contacts where not deleted;
revoke truncate on all tables in schema public from anon, authenticated; revoke all on all tables in schema public from anon;
