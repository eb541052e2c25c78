-- What suppliers and couples share.  clients says who works for whom and is written by
-- the service; everything else follows from it.

create table if not exists public.clients (
  id uuid primary key default gen_random_uuid(),
  supplier_id uuid not null references public.suppliers (id) on delete cascade,
  couple_id uuid not null references public.couples (id) on delete cascade,
  status text not null default 'active'
    check (status in ('lead', 'active', 'completed', 'cancelled')),
  unique (supplier_id, couple_id)
);
create index if not exists idx_clients_couple on public.clients (couple_id);

create table if not exists public.form_responses (
  id uuid primary key default gen_random_uuid(),
  supplier_id uuid not null references public.suppliers (id) on delete cascade,
  couple_id uuid not null references public.couples (id) on delete cascade,
  notes text,
  answers jsonb not null default '{}' check (jsonb_typeof(answers) = 'object')
);
create index if not exists idx_form_responses_supplier
  on public.form_responses (supplier_id);
create index if not exists idx_form_responses_couple
  on public.form_responses (couple_id);

create table if not exists public.journey_progress (
  id uuid primary key default gen_random_uuid(),
  supplier_id uuid not null references public.suppliers (id) on delete cascade,
  couple_id uuid not null references public.couples (id) on delete cascade,
  milestone text not null,
  pct integer not null default 0 check (pct between 0 and 100)
);
create index if not exists idx_journey_progress_supplier
  on public.journey_progress (supplier_id);
create index if not exists idx_journey_progress_couple
  on public.journey_progress (couple_id);

create table if not exists public.core_fields (
  id uuid primary key default gen_random_uuid(),
  couple_id uuid not null references public.couples (id) on delete cascade,
  field_key text not null,
  field_value text,
  unique (couple_id, field_key)
);

create table if not exists public.wedding_details (
  id uuid primary key default gen_random_uuid(),
  couple_id uuid not null unique references public.couples (id) on delete cascade,
  venue text,
  wedding_date date
);

alter table public.clients enable row level security;
alter table public.form_responses enable row level security;
alter table public.journey_progress enable row level security;
alter table public.core_fields enable row level security;
alter table public.wedding_details enable row level security;

revoke all on public.clients, public.form_responses, public.journey_progress,
  public.core_fields, public.wedding_details from anon, authenticated;
grant select on public.clients to authenticated;
grant update (status) on public.clients to authenticated;
grant select, insert, update, delete on public.form_responses,
  public.journey_progress, public.core_fields, public.wedding_details to authenticated;
grant all on public.clients, public.form_responses, public.journey_progress,
  public.core_fields, public.wedding_details to service_role;

drop policy if exists clients_tenant_select on public.clients;
create policy clients_tenant_select on public.clients
  for select to authenticated
  using (supplier_id = (select private.current_supplier_id())
    or couple_id = (select private.current_couple_id()));
drop policy if exists clients_supplier_update on public.clients;
create policy clients_supplier_update on public.clients
  for update to authenticated
  using (supplier_id = (select private.current_supplier_id()))
  with check (supplier_id = (select private.current_supplier_id()));

-- A subquery on clients sees the caller's own relations only.
drop policy if exists suppliers_tenant_select on public.suppliers;
create policy suppliers_tenant_select on public.suppliers
  for select to authenticated
  using (id = (select private.current_supplier_id())
    or id in (select c.supplier_id from public.clients as c));
drop policy if exists suppliers_tenant_update on public.suppliers;
create policy suppliers_tenant_update on public.suppliers
  for update to authenticated
  using (id = (select private.current_supplier_id()))
  with check (id = (select private.current_supplier_id()));

drop policy if exists couples_tenant_select on public.couples;
create policy couples_tenant_select on public.couples
  for select to authenticated
  using (id = (select private.current_couple_id())
    or id in (select c.couple_id from public.clients as c));
drop policy if exists couples_tenant_update on public.couples;
create policy couples_tenant_update on public.couples
  for update to authenticated
  using (id = (select private.current_couple_id()))
  with check (id = (select private.current_couple_id()));

-- Couples answer the forms of their suppliers, suppliers read the answers.
drop policy if exists responses_tenant_select on public.form_responses;
create policy responses_tenant_select on public.form_responses
  for select to authenticated
  using (supplier_id = (select private.current_supplier_id())
    or couple_id = (select private.current_couple_id()));
drop policy if exists responses_couple_insert on public.form_responses;
create policy responses_couple_insert on public.form_responses
  for insert to authenticated
  with check (couple_id = (select private.current_couple_id())
    and supplier_id in (select c.supplier_id from public.clients as c));
drop policy if exists responses_couple_update on public.form_responses;
create policy responses_couple_update on public.form_responses
  for update to authenticated
  using (couple_id = (select private.current_couple_id()))
  with check (couple_id = (select private.current_couple_id())
    and supplier_id in (select c.supplier_id from public.clients as c));
drop policy if exists responses_couple_delete on public.form_responses;
create policy responses_couple_delete on public.form_responses
  for delete to authenticated
  using (couple_id = (select private.current_couple_id()));

-- Suppliers track the journey of their clients, couples watch it.
drop policy if exists journey_tenant_select on public.journey_progress;
create policy journey_tenant_select on public.journey_progress
  for select to authenticated
  using (supplier_id = (select private.current_supplier_id())
    or couple_id = (select private.current_couple_id()));
drop policy if exists journey_supplier_insert on public.journey_progress;
create policy journey_supplier_insert on public.journey_progress
  for insert to authenticated
  with check (supplier_id = (select private.current_supplier_id())
    and couple_id in (select c.couple_id from public.clients as c));
drop policy if exists journey_supplier_update on public.journey_progress;
create policy journey_supplier_update on public.journey_progress
  for update to authenticated
  using (supplier_id = (select private.current_supplier_id()))
  with check (supplier_id = (select private.current_supplier_id())
    and couple_id in (select c.couple_id from public.clients as c));
drop policy if exists journey_supplier_delete on public.journey_progress;
create policy journey_supplier_delete on public.journey_progress
  for delete to authenticated
  using (supplier_id = (select private.current_supplier_id()));

-- A couple's own data, readable by the suppliers that work for it.
drop policy if exists core_fields_tenant_select on public.core_fields;
create policy core_fields_tenant_select on public.core_fields
  for select to authenticated
  using (couple_id = (select private.current_couple_id())
    or couple_id in (select c.couple_id from public.clients as c
      where c.supplier_id = (select private.current_supplier_id())));
drop policy if exists core_fields_couple_insert on public.core_fields;
create policy core_fields_couple_insert on public.core_fields
  for insert to authenticated
  with check (couple_id = (select private.current_couple_id()));
drop policy if exists core_fields_couple_update on public.core_fields;
create policy core_fields_couple_update on public.core_fields
  for update to authenticated
  using (couple_id = (select private.current_couple_id()))
  with check (couple_id = (select private.current_couple_id()));
drop policy if exists core_fields_couple_delete on public.core_fields;
create policy core_fields_couple_delete on public.core_fields
  for delete to authenticated
  using (couple_id = (select private.current_couple_id()));

drop policy if exists weddings_tenant_select on public.wedding_details;
create policy weddings_tenant_select on public.wedding_details
  for select to authenticated
  using (couple_id = (select private.current_couple_id())
    or couple_id in (select c.couple_id from public.clients as c
      where c.supplier_id = (select private.current_supplier_id())));
drop policy if exists weddings_couple_insert on public.wedding_details;
create policy weddings_couple_insert on public.wedding_details
  for insert to authenticated
  with check (couple_id = (select private.current_couple_id()));
drop policy if exists weddings_couple_update on public.wedding_details;
create policy weddings_couple_update on public.wedding_details
  for update to authenticated
  using (couple_id = (select private.current_couple_id()))
  with check (couple_id = (select private.current_couple_id()));
drop policy if exists weddings_couple_delete on public.wedding_details;
create policy weddings_couple_delete on public.wedding_details
  for delete to authenticated
  using (couple_id = (select private.current_couple_id()));
