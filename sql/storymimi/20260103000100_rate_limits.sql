-- Sliding-window rate limits that hold across processes.  Written by the service only.

create table if not exists public.rate_limits (
  id bigint generated always as identity primary key,
  key text not null,
  cost integer not null check (cost > 0),
  at timestamptz not null default clock_timestamp()
);
create index if not exists idx_rate_limits_key_at on public.rate_limits (key, at);
alter table public.rate_limits enable row level security;
revoke all on public.rate_limits from anon, authenticated;
revoke all on sequence public.rate_limits_id_seq from anon, authenticated;
grant all on public.rate_limits to service_role;

-- True, and counted, when p_key has used less than p_max in the last p_window_ms.  The
-- lock makes requests of one key wait for each other, so parallel ones count right.
create or replace function public.check_rate_limit(
  p_key text, p_max integer, p_window_ms integer, p_cost integer default 1,
  p_now timestamptz default null)
returns boolean
language plpgsql security definer set search_path = ''
as $$
declare
  v_now timestamptz := coalesce(p_now, clock_timestamp());
  v_since timestamptz := v_now - make_interval(secs => p_window_ms / 1000.0);
begin
  perform pg_advisory_xact_lock(hashtextextended('rate_limit:' || p_key, 0));
  delete from public.rate_limits as r where r.key = p_key and r.at <= v_since;
  if p_cost + coalesce(
       (select sum(r.cost) from public.rate_limits as r where r.key = p_key), 0) > p_max
  then
    return false;
  end if;
  insert into public.rate_limits (key, cost, at) values (p_key, p_cost, v_now);
  return true;
end;
$$;
revoke all on function
  public.check_rate_limit(text, integer, integer, integer, timestamptz)
  from public, anon, authenticated;
grant execute on function
  public.check_rate_limit(text, integer, integer, integer, timestamptz)
  to service_role;
