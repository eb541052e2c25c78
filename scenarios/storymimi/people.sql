-- Two authors of the StoryMimi scenarios, as part of the template of every project.

insert into auth.users (instance_id, id, aud, role, email, email_confirmed_at,
  raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
select '00000000-0000-0000-0000-000000000000', id::uuid, 'authenticated',
  'authenticated', name || '@example.test', now(), '{}', '{}', now(), now()
from (values
  ('c0000000-0000-4000-8000-000000000001', 'mia'),
  ('c0000000-0000-4000-8000-000000000002', 'leo')
) as people (id, name)
on conflict (id) do nothing;
