-- The people of the climber scenarios, with profiles and roles, as part of the template
-- that every project is cloned from.  Works on the reference and on the first version.

insert into auth.users (instance_id, id, aud, role, email, email_confirmed_at,
  raw_app_meta_data, raw_user_meta_data, is_anonymous, created_at, updated_at)
select '00000000-0000-0000-0000-000000000000', id::uuid, 'authenticated',
  'authenticated', name || '@example.test', now(),
  '{"provider": "email", "providers": ["email"]}', '{}', name = 'guest', now(), now()
from (values
  ('a0000000-0000-4000-8000-000000000001', 'ana'),
  ('a0000000-0000-4000-8000-000000000002', 'ben'),
  ('a0000000-0000-4000-8000-000000000003', 'premium'),
  ('a0000000-0000-4000-8000-000000000004', 'rival'),
  ('a0000000-0000-4000-8000-000000000005', 'admin'),
  ('a0000000-0000-4000-8000-000000000006', 'guest')
) as people (id, name)
on conflict (id) do nothing;

insert into public.user_profiles (id, display_name)
select id, split_part(email, '@', 1) from auth.users
on conflict (id) do nothing;

insert into public.user_roles (user_id, role)
values
  ('a0000000-0000-4000-8000-000000000003', 'premium_user'),
  ('a0000000-0000-4000-8000-000000000004', 'premium_user'),
  ('a0000000-0000-4000-8000-000000000005', 'admin')
on conflict (user_id, role) do nothing;
