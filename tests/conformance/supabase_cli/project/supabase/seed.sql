insert into auth.users (id, email)
values ('00000000-0000-4000-8000-000000000001', 'ada@example.com');
