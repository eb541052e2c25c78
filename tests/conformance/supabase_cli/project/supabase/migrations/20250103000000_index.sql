create index concurrently tasks_owner on public.tasks (owner);
comment on index public.tasks_owner is 'policies look tasks up by owner; ";" is no end';
