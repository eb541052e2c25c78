-- Two suppliers and two couples of the WedSync scenarios, each with a user; the first
-- supplier works for the first couple, the second for the second.

insert into auth.users (instance_id, id, aud, role, email, email_confirmed_at,
  raw_app_meta_data, raw_user_meta_data, created_at, updated_at)
select '00000000-0000-0000-0000-000000000000', id::uuid, 'authenticated',
  'authenticated', name || '@example.test', now(), '{}', '{}', now(), now()
from (values
  ('d0000000-0000-4000-8000-000000000001', 'sam'),
  ('d0000000-0000-4000-8000-000000000002', 'sue'),
  ('d0000000-0000-4000-8000-000000000003', 'cleo'),
  ('d0000000-0000-4000-8000-000000000004', 'carl'),
  ('d0000000-0000-4000-8000-000000000005', 'nobody')
) as people (id, name)
on conflict (id) do nothing;

insert into public.suppliers (id, owner_user_id, business_name) values
  ('d1000000-0000-4000-8000-000000000001', 'd0000000-0000-4000-8000-000000000001',
   'Flowers'),
  ('d1000000-0000-4000-8000-000000000002', 'd0000000-0000-4000-8000-000000000002',
   'Music')
on conflict (id) do nothing;
insert into public.couples (id, owner_user_id, names) values
  ('d2000000-0000-4000-8000-000000000001', 'd0000000-0000-4000-8000-000000000003',
   'Cleo and Max'),
  ('d2000000-0000-4000-8000-000000000002', 'd0000000-0000-4000-8000-000000000004',
   'Carl and Ann')
on conflict (id) do nothing;
insert into public.user_profiles (id, user_type, supplier_id, couple_id) values
  ('d0000000-0000-4000-8000-000000000001', 'supplier',
   'd1000000-0000-4000-8000-000000000001', null),
  ('d0000000-0000-4000-8000-000000000002', 'supplier',
   'd1000000-0000-4000-8000-000000000002', null),
  ('d0000000-0000-4000-8000-000000000003', 'couple', null,
   'd2000000-0000-4000-8000-000000000001'),
  ('d0000000-0000-4000-8000-000000000004', 'couple', null,
   'd2000000-0000-4000-8000-000000000002')
on conflict (id) do nothing;
insert into public.clients (id, supplier_id, couple_id) values
  ('d3000000-0000-4000-8000-000000000001', 'd1000000-0000-4000-8000-000000000001',
   'd2000000-0000-4000-8000-000000000001'),
  ('d3000000-0000-4000-8000-000000000002', 'd1000000-0000-4000-8000-000000000002',
   'd2000000-0000-4000-8000-000000000002')
on conflict (id) do nothing;
