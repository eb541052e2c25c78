-- marketplace: many vendors, one cart, payouts. Admins: auth.users.raw_app_meta_data->'roles' ? 'admin'
create table customers (id uuid primary key references auth.users on delete cascade, full_name text, loyalty_points int not null default 0 check (loyalty_points >= 0));
create table vendors (
  vendor_id bigint primary key generated always as identity,
  shop_name text not null unique, commission numeric(4,2) not null default 12.5 check (commission between 0 and 50),
  status text not null default 'pending' check (status in ('pending','live','banned')), bank_account text
);
create table vendor_staff (
  vendor_id bigint not null references vendors on delete cascade, user_id uuid not null references auth.users on delete cascade,
  is_owner boolean not null default false, primary key (vendor_id, user_id)
);
create table products (
  product_id bigint primary key generated always as identity,
  vendor_id bigint not null references vendors on delete cascade,
  title text not null, price numeric(10,2) not null check (price > 0), stock int not null default 0 check (stock >= 0),
  listed boolean not null default false, cost numeric(10,2)
);
create table carts (
  customer_id uuid not null references customers on delete cascade, product_id bigint not null references products on delete cascade,
  qty int not null default 1 check (qty > 0), primary key (customer_id, product_id)
);
create table orders (
  order_id bigint primary key generated always as identity,
  customer_id uuid not null references customers, state text not null default 'placed' check (state in ('placed','paid','shipped','cancelled')),
  ship_to text not null, placed_at timestamptz not null default now()
);
create table order_items (
  order_id bigint not null references orders on delete cascade, product_id bigint not null references products,
  vendor_id bigint not null references vendors, qty int not null check (qty > 0), unit_price numeric(10,2) not null check (unit_price > 0),
  line_total numeric(12,2) generated always as (qty * unit_price) stored, tracking text,
  primary key (order_id, product_id)
);
create table reviews (
  product_id bigint not null references products on delete cascade, customer_id uuid not null default auth.uid() references customers on delete cascade,
  rating int not null check (rating between 1 and 5), body text, hidden boolean not null default false, vendor_reply text,
  primary key (product_id, customer_id)
);
create table payouts (
  payout_id uuid primary key default gen_random_uuid(), vendor_id bigint not null references vendors, amount numeric(12,2) not null check (amount > 0),
  state text not null default 'requested' check (state in ('requested','approved','paid')), requested_by uuid not null default auth.uid() references auth.users
);
create index on vendor_staff (user_id); create index on products (vendor_id); create index on carts (product_id); create index on orders (customer_id);
create index on order_items (vendor_id); create index on order_items (product_id); create index on reviews (customer_id); create index on payouts (vendor_id);

create function is_admin() returns boolean language sql stable security definer set search_path = '' as $$
  select exists (select 1 from auth.users u where u.id = auth.uid() and u.raw_app_meta_data -> 'roles' ? 'admin') $$;
create function my_vendors(owners_only boolean default false) returns bigint[] language sql stable security definer set search_path = '' as $$
  select coalesce(array_agg(s.vendor_id), '{}') from public.vendor_staff s where s.user_id = auth.uid() and (s.is_owner or not owners_only) $$;
create function sells_in(o bigint) returns boolean language sql stable security definer set search_path = '' as $$
  select exists (select 1 from public.order_items i where i.order_id = o and i.vendor_id = any (public.my_vendors())) $$;
create function bought(p bigint) returns boolean language sql stable security definer set search_path = '' as $$
  select exists (select 1 from public.orders o join public.order_items i using (order_id) where o.customer_id = auth.uid() and i.product_id = p and o.state in ('paid','shipped')) $$;
create function new_customer() returns trigger language plpgsql security definer set search_path = '' as $$
begin insert into public.customers (id, full_name) values (new.id, new.raw_user_meta_data ->> 'full_name'); return new; end $$;
create trigger new_customer after insert on auth.users for each row execute function new_customer();

create function open_shop(name text) returns bigint language plpgsql security definer set search_path = '' as $$
declare v bigint;
begin
  if auth.uid() is null then raise exception 'sign in' using errcode = '42501'; end if;
  insert into public.vendors (shop_name) values (name) returning vendor_id into v;
  insert into public.vendor_staff values (v, auth.uid(), true);
  return v;
end $$;
create function checkout(address text) returns bigint language plpgsql security definer set search_path = '' as $$
declare o bigint;
begin
  if not exists (select 1 from public.carts where customer_id = auth.uid()) then raise exception 'cart is empty' using errcode = 'P0001'; end if;
  insert into public.orders (customer_id, ship_to) values (auth.uid(), address) returning order_id into o;
  insert into public.order_items (order_id, product_id, vendor_id, qty, unit_price)
    select o, p.product_id, p.vendor_id, c.qty, p.price from public.carts c join public.products p using (product_id) where c.customer_id = auth.uid() and p.listed;
  update public.products p set stock = p.stock - c.qty from public.carts c where c.product_id = p.product_id and c.customer_id = auth.uid() and p.listed;
  delete from public.carts where customer_id = auth.uid();
  return o;
end $$;
create function cancel_order(o bigint) returns void language plpgsql security definer set search_path = '' as $$
begin
  update public.orders set state = 'cancelled' where order_id = o and customer_id = auth.uid() and state = 'placed';
  if not found then raise exception 'cannot cancel' using errcode = '42501'; end if;
end $$;
create function approve_payout(p uuid) returns void language plpgsql security definer set search_path = '' as $$
begin
  if not public.is_admin() then raise exception 'admins only' using errcode = '42501'; end if;
  update public.payouts set state = 'approved' where payout_id = p and state = 'requested';
end $$;
create function vendor_revenue(v bigint) returns numeric language sql stable security definer set search_path = '' as $$
  select sum(line_total) from public.order_items where vendor_id = v and v = any (public.my_vendors(true)) $$;
revoke execute on function open_shop(text), checkout(text), cancel_order(bigint), approve_payout(uuid), vendor_revenue(bigint) from public, anon;

alter table customers enable row level security; alter table vendors enable row level security; alter table vendor_staff enable row level security;
alter table products enable row level security; alter table carts enable row level security; alter table orders enable row level security;
alter table order_items enable row level security; alter table reviews enable row level security; alter table payouts enable row level security;

create policy c1 on customers for select to authenticated using (id = auth.uid() or is_admin());
create policy c2 on customers for update to authenticated using (id = auth.uid()) with check (id = auth.uid());
create policy v1 on vendors for select using (status = 'live' or vendor_id = any (my_vendors()) or is_admin());
create policy v2 on vendors for update to authenticated using (vendor_id = any (my_vendors(true))) with check (vendor_id = any (my_vendors(true)));
create policy s1 on vendor_staff for select to authenticated using (vendor_id = any (my_vendors()));
create policy s2 on vendor_staff for all to authenticated using (vendor_id = any (my_vendors(true))) with check (vendor_id = any (my_vendors(true)));
create policy p1 on products for select using (listed and exists (select 1 from vendors v where v.vendor_id = products.vendor_id and v.status = 'live') or vendor_id = any (my_vendors()));
create policy p2 on products for insert to authenticated with check (vendor_id = any (my_vendors()));
create policy p3 on products for update to authenticated using (vendor_id = any (my_vendors())) with check (vendor_id = any (my_vendors()));
create policy p4 on products for delete to authenticated using (vendor_id = any (my_vendors(true)));
create policy k1 on carts to authenticated using (customer_id = auth.uid()) with check (customer_id = auth.uid());
create policy o1 on orders for select to authenticated using (customer_id = auth.uid() or sells_in(order_id) or is_admin());
create policy i1 on order_items for select to authenticated using (vendor_id = any (my_vendors()) or exists (select 1 from orders o where o.order_id = order_items.order_id and o.customer_id = auth.uid()));
create policy i2 on order_items for update to authenticated using (vendor_id = any (my_vendors())) with check (vendor_id = any (my_vendors()));
create policy r1 on reviews for select using (not hidden or customer_id = auth.uid() or is_admin());
create policy r2 on reviews for insert to authenticated with check (customer_id = auth.uid() and bought(product_id) and not hidden and vendor_reply is null);
create policy r3 on reviews for delete to authenticated using (customer_id = auth.uid());
create policy r4 on reviews for update to authenticated using (exists (select 1 from products p where p.product_id = reviews.product_id and p.vendor_id = any (my_vendors())));
create policy y1 on payouts for select to authenticated using (vendor_id = any (my_vendors(true)) or is_admin());
create policy y2 on payouts for insert to authenticated with check (vendor_id = any (my_vendors(true)) and requested_by = auth.uid() and state = 'requested');

create view storefront with (security_invoker = true, security_barrier = true) as
  select p.product_id, p.title, p.price, p.stock > 0 as available, v.shop_name from products p join vendors v using (vendor_id) where p.listed;

revoke truncate on all tables in schema public from anon, authenticated;
revoke update on customers, vendors, order_items, reviews from anon, authenticated;
grant update (full_name) on customers to authenticated;
grant update (shop_name, bank_account) on vendors to authenticated;
grant update (tracking) on order_items to authenticated;
grant update (vendor_reply) on reviews to authenticated;
revoke insert, update, delete on orders from anon, authenticated;
revoke select on products, vendors from anon, authenticated;
grant select (product_id, vendor_id, title, price, stock, listed) on products to anon, authenticated;
grant select (vendor_id, shop_name, status) on vendors to anon, authenticated;

insert into storage.buckets (id, name, public) values ('product-images', 'product-images', true), ('invoices', 'invoices', false);
create policy "vendor images" on storage.objects for insert to authenticated
  with check (bucket_id = 'product-images' and (storage.foldername(name))[1] = any (public.my_vendors()::text[]));
create policy "vendor images replace" on storage.objects for update to authenticated
  using (bucket_id = 'product-images' and (storage.foldername(name))[1] = any (public.my_vendors()::text[]))
  with check (bucket_id = 'product-images' and (storage.foldername(name))[1] = any (public.my_vendors()::text[]));
create policy "vendor images list" on storage.objects for select to authenticated
  using (bucket_id = 'product-images' and (storage.foldername(name))[1] = any (public.my_vendors()::text[]));
create policy "own invoices" on storage.objects for select to authenticated
  using (bucket_id = 'invoices' and split_part(name, '/', 1) = 'customer' and split_part(name, '/', 2) = auth.uid()::text);
