insert into public.tasks (owner, title)
values ('00000000-0000-4000-8000-000000000001', 'seeded');
