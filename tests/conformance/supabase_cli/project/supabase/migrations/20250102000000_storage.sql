insert into storage.buckets (id, name, public) values ('pictures', 'pictures', true)
  on conflict do nothing;

create policy "own folder" on storage.objects
  for all to authenticated
  using (bucket_id = 'pictures' and (storage.foldername(name))[1] = auth.uid()::text);

create policy "own topic" on realtime.messages
  for select to authenticated
  using (realtime.topic() = 'tasks:' || auth.uid()::text);

/* a comment; with a semicolon */ -- and another;
select 1 /* inside */ ;
select
  2
-- the end of the file
