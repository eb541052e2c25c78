create schema if not exists private;
create table public.clinics (id uuid primary key default gen_random_uuid(), name text not null);
create table public.staff (
  clinic_id uuid not null references public.clinics on delete cascade,
  user_id uuid not null references auth.users on delete cascade,
  role text not null check (role in ('doctor','nurse','receptionist','manager')),
  primary key (clinic_id, user_id));
create table public.patients (
  id uuid primary key default gen_random_uuid(),
  clinic_id uuid not null references public.clinics on delete cascade,
  user_id uuid references auth.users on delete set null,
  full_name text not null, date_of_birth date, deleted_at timestamptz,
  unique (id, clinic_id));
create table public.care_team (
  patient_id uuid not null references public.patients on delete cascade,
  user_id uuid not null references auth.users on delete cascade,
  since date not null default current_date,
  primary key (patient_id, user_id));
create table public.encounters (
  id uuid primary key default gen_random_uuid(),
  patient_id uuid not null, clinic_id uuid not null,
  doctor_id uuid not null references auth.users,
  summary text not null default '', signed boolean not null default false,
  created_at timestamptz not null default now(),
  foreign key (patient_id, clinic_id) references public.patients (id, clinic_id) on delete cascade);
create table public.prescriptions (
  id bigint generated always as identity primary key,
  encounter_id uuid not null references public.encounters on delete cascade,
  drug text not null, dosage jsonb not null default '{}');
create table public.audit_log (
  id bigint generated always as identity primary key, actor_id uuid, table_name text not null,
  at timestamptz not null default now(), payload jsonb);
create index on public.staff (user_id); create index on public.patients (clinic_id); create index on public.patients (user_id);
create index on public.care_team (user_id); create index on public.encounters (patient_id);
create index on public.prescriptions (encounter_id);

create function private.staff_role(c uuid) returns text language sql stable security definer set search_path = '' as
$$ select s.role from public.staff s where s.clinic_id = c and s.user_id = auth.uid() $$;
create function private.treats(p uuid) returns boolean language sql stable security definer set search_path = '' as
$$ select exists (select from public.care_team t where t.patient_id = p and t.user_id = auth.uid()) $$;
create function private.can_read_encounter(e uuid) returns boolean language sql stable security definer set search_path = '' as
$$ select exists (select from public.encounters x join public.patients p on p.id = x.patient_id
   where x.id = e and (private.treats(p.id) or (p.user_id = auth.uid() and x.signed))) $$;
grant usage on schema private to authenticated, service_role;
revoke execute on all functions in schema private from public;
grant execute on all functions in schema private to authenticated, service_role;

create function private.log_change() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.audit_log (actor_id, table_name, payload)
  values (auth.uid(), tg_table_name, to_jsonb(coalesce(new, old)));
  return coalesce(new, old);
end $$;
create trigger log_encounters after insert or update or delete on public.encounters for each row execute function private.log_change();
create function public.stamp_doctor() returns trigger language plpgsql set search_path = '' as $$
begin
  if tg_op = 'INSERT' then new.doctor_id := coalesce(auth.uid(), new.doctor_id);
  else new.doctor_id := old.doctor_id; end if;
  return new;
end $$;
create trigger stamp_doctor before insert or update on public.encounters for each row execute function public.stamp_doctor();

do $$ declare t text; begin
  foreach t in array array['clinics','staff','patients','care_team','encounters','prescriptions','audit_log'] loop
    execute format('alter table public.%I enable row level security', t);
    execute format('revoke all on public.%I from anon', t);
    execute format('revoke truncate, references, trigger on public.%I from authenticated', t);
  end loop; end $$;
create policy clinics_read on public.clinics for select to authenticated
  using (private.staff_role(id) is not null or exists (select from public.patients p where p.clinic_id = clinics.id and p.user_id = (select auth.uid())));
create policy staff_read on public.staff for select to authenticated using (private.staff_role(clinic_id) is not null);
create policy staff_manage on public.staff for all to authenticated
  using (private.staff_role(clinic_id) = 'manager') with check (private.staff_role(clinic_id) = 'manager');
create policy patients_read on public.patients for select to authenticated
  using (user_id = (select auth.uid()) or (private.staff_role(clinic_id) is not null and deleted_at is null));
create policy patients_insert on public.patients for insert to authenticated
  with check (private.staff_role(clinic_id) in ('receptionist','manager'));
create policy patients_update on public.patients for update to authenticated
  using (private.staff_role(clinic_id) in ('receptionist','manager') and deleted_at is null)
  with check (private.staff_role(clinic_id) in ('receptionist','manager') and deleted_at is null);
create policy team_read on public.care_team for select to authenticated
  using (user_id = (select auth.uid()) or private.treats(patient_id));
create policy team_manage on public.care_team for all to authenticated
  using (exists (select from public.patients p where p.id = patient_id and private.staff_role(p.clinic_id) = 'manager'))
  with check (exists (select from public.patients p join public.staff s on s.clinic_id = p.clinic_id and s.user_id = care_team.user_id
     where p.id = patient_id and private.staff_role(p.clinic_id) = 'manager'));
create policy encounters_read on public.encounters for select to authenticated
  using (private.treats(patient_id) or (signed and exists (select from public.patients p where p.id = patient_id and p.user_id = (select auth.uid()))));
create policy encounters_insert on public.encounters for insert to authenticated
  with check (doctor_id = (select auth.uid()) and private.treats(patient_id) and private.staff_role(clinic_id) = 'doctor');
create policy encounters_update on public.encounters for update to authenticated
  using (doctor_id = (select auth.uid()) and private.treats(patient_id) and not signed)
  with check (doctor_id = (select auth.uid()) and private.treats(patient_id) and private.staff_role(clinic_id) = 'doctor');
create policy prescriptions_read on public.prescriptions for select to authenticated using (private.can_read_encounter(encounter_id));
create policy prescriptions_write on public.prescriptions for insert to authenticated
  with check (exists (select from public.encounters e where e.id = encounter_id and e.doctor_id = (select auth.uid()) and not e.signed));
-- audit_log: nobody but the service role
create function public.my_upcoming(p_patient uuid) returns setof public.encounters language sql stable security definer set search_path = '' as $$
  select e.* from public.encounters e where e.patient_id = p_patient and private.treats(p_patient) $$;
revoke execute on function public.my_upcoming(uuid) from public, anon;
insert into storage.buckets (id, name, public) values ('scans', 'scans', false);
-- scans/<patient id>/<file>
create policy scans_read on storage.objects for select to authenticated
  using (bucket_id = 'scans' and exists (select from public.care_team t where t.patient_id::text = (storage.foldername(name))[1] and t.user_id = (select auth.uid())));
create policy scans_upload on storage.objects for insert to authenticated
  with check (bucket_id = 'scans' and exists (select from public.care_team t where t.patient_id::text = (storage.foldername(name))[1] and t.user_id = (select auth.uid())));
