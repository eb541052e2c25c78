create table public.companies (id uuid primary key default gen_random_uuid(), name text not null, owner_id uuid not null default auth.uid() references auth.users(id), recruiter_ids uuid[] not null default '{}', verified boolean not null default false);
create table public.jobs (id uuid primary key default gen_random_uuid(), company_id uuid not null references public.companies(id) on delete cascade, title text not null, body text, status text not null default 'draft', published_at timestamptz, constraint jobs_status check (status = any (array['draft','open','closed'])));
create table public.candidates (user_id uuid primary key references auth.users(id) on delete cascade, full_name text not null, phone text, open_to_work boolean not null default true);
create table public.applications (id uuid primary key default gen_random_uuid(), job_id uuid not null references public.jobs(id) on delete cascade, candidate_id uuid not null references public.candidates(user_id) on delete cascade, cover_letter text, stage text not null default 'applied', rating int check (rating between 0 and 10), created_at timestamptz not null default now(), unique (job_id, candidate_id));
create table public.application_notes (id uuid primary key default gen_random_uuid(), application_id uuid not null references public.applications(id) on delete cascade, author_id uuid not null references auth.users(id), note text not null);
create table public.saved_jobs (user_id uuid not null references auth.users(id) on delete cascade, job_id uuid not null references public.jobs(id) on delete cascade, primary key (user_id, job_id));
create index on public.jobs(company_id); create index on public.applications(candidate_id); create index on public.application_notes(application_id); create index on public.companies using gin (recruiter_ids); create index on public.companies(owner_id);
alter table public.companies enable row level security; alter table public.jobs enable row level security; alter table public.candidates enable row level security;
alter table public.applications enable row level security; alter table public.application_notes enable row level security; alter table public.saved_jobs enable row level security;

create or replace function public.recruits_for(p_company uuid) returns boolean language sql stable security definer set search_path = '' as $$
  select exists (select 1 from public.companies c where c.id = p_company and (c.owner_id = (select auth.uid()) or (select auth.uid()) = any (c.recruiter_ids)))
$$;
create or replace function public.recruits_for_job(p_job uuid) returns boolean language sql stable security definer set search_path = '' as $$
  select exists (select 1 from public.jobs j where j.id = p_job and public.recruits_for(j.company_id))
$$;
create or replace function public.protect_application() returns trigger language plpgsql set search_path = '' as $$
begin
  if new.job_id <> old.job_id or new.candidate_id <> old.candidate_id then raise exception 'applications stay where they are' using errcode = '42501'; end if;
  return new;
end $$;
create trigger protect_application before update on public.applications for each row execute function public.protect_application();

create policy "companies are public" on public.companies for select to anon, authenticated using (true);
create policy "found a company" on public.companies for insert to authenticated with check (owner_id = (select auth.uid()) and not verified);
create policy "owner edits company" on public.companies for update to authenticated using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
revoke update on public.companies from anon, authenticated; grant update (name, recruiter_ids) on public.companies to authenticated;
create policy "open jobs are public" on public.jobs for select to anon, authenticated using (status = 'open');
create policy "recruiters see all jobs" on public.jobs for select to authenticated using (public.recruits_for(company_id));
create policy "recruiters post" on public.jobs for insert to authenticated with check (public.recruits_for(company_id));
create policy "recruiters edit" on public.jobs for update to authenticated using (public.recruits_for(company_id)) with check (public.recruits_for(company_id));
create policy "recruiters remove" on public.jobs for delete to authenticated using (public.recruits_for(company_id) and status = 'draft');
create policy "own candidate card" on public.candidates for all to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "recruiters see applicants" on public.candidates for select to authenticated using (exists (select 1 from public.applications a where a.candidate_id = user_id and public.recruits_for_job(a.job_id)));
create policy "apply" on public.applications for insert to authenticated with check (candidate_id = (select auth.uid()) and exists (select 1 from public.jobs j where j.id = job_id and j.status = 'open'));
create policy "candidates see own" on public.applications for select to authenticated using (candidate_id = (select auth.uid()));
create policy "recruiters see" on public.applications for select to authenticated using (public.recruits_for_job(job_id));
create policy "recruiters move" on public.applications for update to authenticated using (public.recruits_for_job(job_id)) with check (public.recruits_for_job(job_id));
create policy "withdraw" on public.applications for delete to authenticated using (candidate_id = (select auth.uid()));
revoke insert, update on public.applications from anon, authenticated;
grant insert (id, job_id, candidate_id, cover_letter) on public.applications to authenticated; grant update (stage, rating) on public.applications to authenticated;
create policy "notes are internal" on public.application_notes for select to authenticated using (exists (select 1 from public.applications a where a.id = application_id and public.recruits_for_job(a.job_id)));
create policy "write notes" on public.application_notes for insert to authenticated with check (author_id = (select auth.uid()) and exists (select 1 from public.applications a where a.id = application_id and public.recruits_for_job(a.job_id)));
create policy "saved" on public.saved_jobs for all to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
revoke truncate on all tables in schema public from anon, authenticated;
create policy "candidate uploads resume" on storage.objects for insert to authenticated with check (bucket_id = 'resumes' and split_part(name, '/', 1) = (select auth.uid())::text);
create policy "candidate reads resume" on storage.objects for select to authenticated using (bucket_id = 'resumes' and split_part(name, '/', 1) = (select auth.uid())::text);
create policy "candidate deletes resume" on storage.objects for delete to authenticated using (bucket_id = 'resumes' and split_part(name, '/', 1) = (select auth.uid())::text);

insert into storage.buckets (id, name, public) values ('resumes', 'resumes', false);
