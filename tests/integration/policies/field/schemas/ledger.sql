-- Wallets with double-entry ledger: entries are immutable and written by functions only.
create table public.wallets (
  id uuid primary key default gen_random_uuid(), user_id uuid not null references auth.users (id) on delete cascade,
  currency char(3) not null default 'EUR' check (currency ~ '^[A-Z]{3}$'), balance numeric(14,2) not null default 0 check (balance >= 0), frozen boolean not null default false,
  unique (user_id, currency));
create table public.transfers (
  id uuid primary key default gen_random_uuid(), from_wallet uuid not null references public.wallets (id), to_wallet uuid not null references public.wallets (id),
  amount numeric(14,2) not null check (amount > 0), memo text, requested_by uuid not null references auth.users (id), created_at timestamptz not null default now(), check (from_wallet <> to_wallet));
create table public.ledger_entries (
  id bigint generated always as identity primary key, transfer_id uuid not null references public.transfers (id), wallet_id uuid not null references public.wallets (id), amount numeric(14,2) not null, booked_at timestamptz not null default now());
create table public.beneficiaries (id uuid primary key default gen_random_uuid(), user_id uuid not null default auth.uid() references auth.users (id) on delete cascade, name text not null, wallet_id uuid not null references public.wallets (id), nickname text);
create table public.kyc_documents (id uuid primary key default gen_random_uuid(), user_id uuid not null references auth.users (id) on delete cascade, path text not null, status text not null default 'submitted' check (status in ('submitted','approved','rejected')));
create index on public.transfers (from_wallet); create index on public.transfers (to_wallet); create index on public.ledger_entries (wallet_id); create index on public.beneficiaries (user_id); create index on public.kyc_documents (user_id);

create function public.refuse_change() returns trigger language plpgsql as $$ begin raise exception 'ledger entries are immutable' using errcode = '42501'; end $$;
create trigger immutable before update or delete on public.ledger_entries for each row execute function public.refuse_change();

create function public.send_money(p_from uuid, p_to uuid, p_amount numeric) returns uuid language plpgsql security definer set search_path = public, pg_temp as $$
declare v_id uuid;
begin
  if p_amount is null or p_amount <= 0 then raise exception 'bad amount' using errcode = '22023'; end if;
  perform 1 from wallets where id = p_from and user_id = auth.uid() and not frozen for update;
  if not found then raise exception 'not your wallet' using errcode = '42501'; end if;
  update wallets set balance = balance - p_amount where id = p_from and balance >= p_amount;
  if not found then raise exception 'insufficient funds' using errcode = '22023'; end if;
  update wallets set balance = balance + p_amount where id = p_to;
  insert into transfers (from_wallet, to_wallet, amount, requested_by) values (p_from, p_to, p_amount, auth.uid()) returning id into v_id;
  insert into ledger_entries (transfer_id, wallet_id, amount) values (v_id, p_from, -p_amount), (v_id, p_to, p_amount);
  return v_id;
end $$;
create function public.wallet_balance(p_wallet uuid) returns numeric language plpgsql stable security definer set search_path = '' as $$
begin
  if not exists (select from public.wallets w where w.id = p_wallet and w.user_id = auth.uid()) then raise exception 'not yours' using errcode = '42501'; end if;
  return (select w.balance from public.wallets w where w.id = p_wallet);
end $$;
revoke all on function public.send_money(uuid, uuid, numeric), public.wallet_balance(uuid), public.refuse_change() from public, anon, authenticated;
grant execute on function public.send_money(uuid, uuid, numeric), public.wallet_balance(uuid) to authenticated;

alter table public.wallets enable row level security; alter table public.transfers enable row level security; alter table public.ledger_entries enable row level security; alter table public.beneficiaries enable row level security; alter table public.kyc_documents enable row level security;
alter table public.wallets force row level security;
revoke all on public.wallets, public.transfers, public.ledger_entries, public.beneficiaries, public.kyc_documents from anon, authenticated;
grant select on public.wallets, public.transfers, public.ledger_entries to authenticated;
grant select, insert, delete on public.beneficiaries to authenticated; grant update (nickname) on public.beneficiaries to authenticated;
grant select, insert (id, user_id, path) on public.kyc_documents to authenticated;
create policy "own wallets" on public.wallets for select to authenticated using (user_id = (select auth.uid()));
create policy "own transfers" on public.transfers for select to authenticated using (exists (select 1 from public.wallets w where w.id in (from_wallet, to_wallet) and w.user_id = (select auth.uid())));
create policy "own entries" on public.ledger_entries for select to authenticated using (wallet_id in (select w.id from public.wallets w where w.user_id = (select auth.uid())));
create policy "own beneficiaries" on public.beneficiaries for all to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "own kyc read" on public.kyc_documents for select to authenticated using (user_id = (select auth.uid()));
create policy "own kyc submit" on public.kyc_documents for insert to authenticated with check (user_id = (select auth.uid()));
create materialized view public.volume_by_wallet as select wallet_id, sum(abs(amount)) as volume from public.ledger_entries group by wallet_id;
revoke all on public.volume_by_wallet from anon, authenticated;
insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types) values ('kyc', 'kyc', false, 10485760, array['image/jpeg','application/pdf']);
create policy "kyc upload" on storage.objects for insert to authenticated with check (bucket_id = 'kyc' and (storage.foldername(name))[1] = (select auth.uid()::text));
create policy "kyc read" on storage.objects for select to authenticated using (bucket_id = 'kyc' and (storage.foldername(name))[1] = (select auth.uid()::text));
