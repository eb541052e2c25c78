-- Two narrators of the audiobook scenarios, each with a project, a chapter and three
-- sections, as part of the template that every project is cloned from.

insert into auth.users (instance_id, id, aud, role, email, email_confirmed_at,
  raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
select '00000000-0000-0000-0000-000000000000', id::uuid, 'authenticated',
  'authenticated', name || '@example.test', now(), '{}', '{}', now(), now()
from (values
  ('b0000000-0000-4000-8000-000000000001', 'nora'),
  ('b0000000-0000-4000-8000-000000000002', 'omar')
) as people (id, name)
on conflict (id) do nothing;

insert into public.projects (id, user_id, title)
select overlay(id::text placing 'b1' from 1 for 2)::uuid, id, 'A novel'
from auth.users on conflict (id) do nothing;
insert into public.chapters (id, project_id, title)
select overlay(id::text placing 'b2' from 1 for 2)::uuid, id, 'One'
from public.projects on conflict (id) do nothing;
insert into public.sections (id, chapter_id, body, position)
select overlay(id::text placing 'b' || (2 + n) from 1 for 2)::uuid, id, 'Text', n
from public.chapters, generate_series(1, 3) as numbers (n) on conflict (id) do nothing;
