-- Health: patients, clinicians with care assignments, records, audit trail.

create table public.patients (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null unique references auth.users (id) on delete cascade,
  full_name text not null,
  birth_date date not null check (birth_date > '1900-01-01')
);

create table public.clinicians (
  user_id uuid primary key references auth.users (id) on delete cascade,
  licence text not null,
  active boolean not null default true
);

create table public.care_assignments (
  patient_id uuid not null references public.patients (id) on delete cascade,
  clinician_id uuid not null references public.clinicians (user_id) on delete cascade,
  valid_until timestamptz,
  primary key (patient_id, clinician_id)
);

create table public.records (
  id uuid primary key default gen_random_uuid(),
  patient_id uuid not null references public.patients (id) on delete cascade,
  author_id uuid not null default auth.uid() references public.clinicians (user_id),
  note text not null,
  confidential boolean not null default false
);

create table public.record_access_log (
  id bigint generated always as identity primary key,
  record_id uuid,
  user_id uuid,
  at timestamptz not null default now()
);

create function public.treats(p uuid)
returns boolean language sql stable security definer set search_path = ''
as $$
  select exists (
    select 1 from public.care_assignments a
    join public.clinicians c on c.user_id = a.clinician_id
    where a.patient_id = p and a.clinician_id = (select auth.uid()) and c.active
      and (a.valid_until is null or a.valid_until > now())
  );
$$;

create function public.is_patient(p uuid)
returns boolean language sql stable security definer set search_path = ''
as $$
  select exists (select 1 from public.patients
                 where id = p and user_id = (select auth.uid()));
$$;

create function public.open_record(record uuid)
returns text language plpgsql security definer set search_path = ''
as $$
declare
  found_record public.records;
begin
  select * into found_record from public.records r where r.id = record;
  if found_record.id is null
     or not (public.treats(found_record.patient_id)
             or public.is_patient(found_record.patient_id)
                and not found_record.confidential) then
    raise exception 'no such record' using errcode = 'P0002';
  end if;
  insert into public.record_access_log (record_id, user_id) values (record, auth.uid());
  return found_record.note;
end;
$$;

alter table public.patients enable row level security;
alter table public.clinicians enable row level security;
alter table public.care_assignments enable row level security;
alter table public.records enable row level security;
alter table public.record_access_log enable row level security;

create policy patients_self on public.patients for select to authenticated
  using (user_id = (select auth.uid()));
create policy patients_treated on public.patients for select to authenticated
  using (public.treats(id));
create policy patients_edit_self on public.patients for update to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

create policy clinicians_self on public.clinicians for select to authenticated
  using (user_id = (select auth.uid()));

create policy assignments_visible on public.care_assignments for select to authenticated
  using (clinician_id = (select auth.uid()) or public.is_patient(patient_id));

create policy records_patient on public.records for select to authenticated
  using (not confidential and public.is_patient(patient_id));
create policy records_clinician on public.records for select to authenticated
  using (public.treats(patient_id));
create policy records_write on public.records for insert to authenticated
  with check (author_id = (select auth.uid()) and public.treats(patient_id));
create policy records_amend on public.records for update to authenticated
  using (author_id = (select auth.uid()) and public.treats(patient_id))
  with check (author_id = (select auth.uid()) and public.treats(patient_id));

revoke all on public.record_access_log from anon, authenticated;
revoke all on public.records from anon;
revoke execute on function public.open_record(uuid) from public, anon;
