-- Ride hailing backend
CREATE TYPE public.ride_status AS ENUM ('requested', 'accepted', 'started', 'completed', 'cancelled');
CREATE TYPE public.driver_state AS ENUM ('pending', 'approved', 'suspended');

CREATE TABLE public.profiles (
    user_id     UUID PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE,
    first_name  VARCHAR(80),
    phone       VARCHAR(20),
    created_at  TIMESTAMPTZ NOT NULL DEFAULT NOW()
);
CREATE TABLE public.drivers (
    driver_id   UUID PRIMARY KEY REFERENCES public.profiles (user_id) ON DELETE CASCADE,
    license_no  VARCHAR(40) NOT NULL UNIQUE,
    state       public.driver_state NOT NULL DEFAULT 'pending',
    bio         TEXT
);
CREATE TABLE public.vehicles (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    driver_id   UUID NOT NULL REFERENCES public.drivers (driver_id) ON DELETE CASCADE,
    plate       VARCHAR(12) NOT NULL,
    seats       SMALLINT NOT NULL DEFAULT 4 CHECK (seats BETWEEN 1 AND 8)
);
CREATE TABLE public.rides (
    id          UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    rider_id    UUID NOT NULL REFERENCES public.profiles (user_id),
    driver_id   UUID REFERENCES public.drivers (driver_id),
    status      public.ride_status NOT NULL DEFAULT 'requested',
    pickup      POINT NOT NULL,
    dropoff     POINT NOT NULL,
    base_cents  INT NOT NULL DEFAULT 300 CHECK (base_cents >= 0),
    km          NUMERIC(6, 2) NOT NULL DEFAULT 1 CHECK (km > 0),
    fare_cents  INT GENERATED ALWAYS AS (base_cents + (km * 110)::INT) STORED,
    created_at  TIMESTAMPTZ NOT NULL DEFAULT NOW(),
    CHECK (status = 'requested' OR status = 'cancelled' OR driver_id IS NOT NULL)
);
CREATE TABLE public.driver_locations (
    driver_id   UUID PRIMARY KEY REFERENCES public.drivers (driver_id) ON DELETE CASCADE,
    lat         DOUBLE PRECISION NOT NULL CHECK (lat BETWEEN -90 AND 90),
    lng         DOUBLE PRECISION NOT NULL CHECK (lng BETWEEN -180 AND 180),
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT NOW()
);
CREATE TABLE public.wallets (
    user_id       UUID PRIMARY KEY REFERENCES public.profiles (user_id) ON DELETE CASCADE,
    balance_cents INT NOT NULL DEFAULT 0 CHECK (balance_cents >= 0),
    currency      CHAR(3) NOT NULL DEFAULT 'EUR'
);
CREATE TABLE public.payments (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ride_id     UUID NOT NULL UNIQUE REFERENCES public.rides (id),
    payer_id    UUID NOT NULL REFERENCES public.profiles (user_id),
    cents       INT NOT NULL CHECK (cents > 0),
    paid_at     TIMESTAMPTZ NOT NULL DEFAULT NOW()
);
CREATE TABLE public.ratings (
    ride_id     UUID NOT NULL REFERENCES public.rides (id) ON DELETE CASCADE,
    rater_id    UUID NOT NULL REFERENCES public.profiles (user_id) ON DELETE CASCADE,
    stars       SMALLINT NOT NULL CHECK (stars BETWEEN 1 AND 5),
    comment     TEXT,
    PRIMARY KEY (ride_id, rater_id)
);
CREATE INDEX ON public.vehicles (driver_id);
CREATE INDEX ON public.rides (rider_id);
CREATE INDEX ON public.rides (driver_id);
CREATE INDEX ON public.payments (payer_id);
CREATE INDEX ON public.ratings (rater_id);

CREATE OR REPLACE FUNCTION public.is_admin() RETURNS BOOLEAN LANGUAGE sql STABLE AS $$
    SELECT COALESCE((auth.jwt() -> 'app_metadata' ->> 'role') = 'admin', FALSE);
$$;
CREATE OR REPLACE FUNCTION public.is_approved_driver() RETURNS BOOLEAN LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' AS $$
    SELECT EXISTS (SELECT 1 FROM public.drivers d WHERE d.driver_id = auth.uid() AND d.state = 'approved');
$$;

CREATE OR REPLACE FUNCTION public.handle_new_user() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
    INSERT INTO profiles (user_id, first_name) VALUES (NEW.id, NEW.raw_user_meta_data ->> 'first_name');
    INSERT INTO wallets (user_id) VALUES (NEW.id);
    RETURN NEW;
END; $$;
CREATE TRIGGER on_auth_user_created AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.handle_new_user();

-- nobody but the service may change who rides, what it costs, or go backwards
CREATE OR REPLACE FUNCTION public.guard_ride() RETURNS TRIGGER LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
    IF current_user NOT IN ('authenticated', 'anon') THEN RETURN NEW; END IF;
    IF (NEW.rider_id, NEW.driver_id, NEW.base_cents, NEW.km) IS DISTINCT FROM (OLD.rider_id, OLD.driver_id, OLD.base_cents, OLD.km) THEN
        RAISE EXCEPTION 'these columns of a ride are fixed' USING ERRCODE = '42501';
    END IF;
    IF OLD.status IN ('completed', 'cancelled') THEN
        RAISE EXCEPTION 'the ride is over' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
END; $$;
CREATE TRIGGER guard_ride BEFORE UPDATE ON public.rides FOR EACH ROW EXECUTE FUNCTION public.guard_ride();

CREATE OR REPLACE FUNCTION public.accept_ride(p_ride UUID) RETURNS VOID LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    IF NOT public.is_approved_driver() THEN RAISE EXCEPTION 'not an approved driver' USING ERRCODE = '42501'; END IF;
    UPDATE public.rides SET driver_id = auth.uid(), status = 'accepted' WHERE id = p_ride AND status = 'requested';
    IF NOT FOUND THEN RAISE EXCEPTION 'ride is taken' USING ERRCODE = 'P0002'; END IF;
END; $$;
CREATE OR REPLACE FUNCTION public.approve_driver(p_driver UUID) RETURNS VOID LANGUAGE plpgsql SECURITY DEFINER SET search_path = '' AS $$
BEGIN
    IF NOT public.is_admin() THEN RAISE EXCEPTION 'forbidden' USING ERRCODE = '42501'; END IF;
    UPDATE public.drivers SET state = 'approved' WHERE driver_id = p_driver;
END; $$;
CREATE OR REPLACE FUNCTION public.credit_wallet(p_user UUID, p_cents INT) RETURNS INT LANGUAGE sql SECURITY DEFINER SET search_path = '' AS $$
    UPDATE public.wallets SET balance_cents = balance_cents + p_cents WHERE user_id = p_user RETURNING balance_cents;
$$;
REVOKE EXECUTE ON FUNCTION public.accept_ride(UUID), public.approve_driver(UUID), public.credit_wallet(UUID, INT) FROM PUBLIC, anon, authenticated;
GRANT EXECUTE ON FUNCTION public.accept_ride(UUID), public.approve_driver(UUID) TO authenticated;

CREATE VIEW public.ride_receipts WITH (security_invoker = true) AS
    SELECT r.id, r.rider_id, r.fare_cents, p.cents, p.paid_at FROM public.rides r JOIN public.payments p ON p.ride_id = r.id;

ALTER TABLE public.profiles ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.drivers ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.vehicles ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.rides ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.driver_locations ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.wallets ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.payments ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.ratings ENABLE ROW LEVEL SECURITY;

CREATE POLICY profiles_self ON public.profiles FOR SELECT TO authenticated USING (user_id = auth.uid() OR public.is_admin());
CREATE POLICY profiles_edit ON public.profiles FOR UPDATE TO authenticated USING (user_id = auth.uid()) WITH CHECK (user_id = auth.uid());
CREATE POLICY drivers_read ON public.drivers FOR SELECT TO authenticated USING (driver_id = auth.uid() OR public.is_admin());
CREATE POLICY drivers_apply ON public.drivers FOR INSERT TO authenticated WITH CHECK (driver_id = auth.uid() AND state = 'pending');
CREATE POLICY drivers_edit ON public.drivers FOR UPDATE TO authenticated USING (driver_id = auth.uid()) WITH CHECK (driver_id = auth.uid());
CREATE POLICY vehicles_own ON public.vehicles FOR ALL TO authenticated USING (driver_id = auth.uid()) WITH CHECK (driver_id = auth.uid());
CREATE POLICY rides_read ON public.rides FOR SELECT TO authenticated
    USING (rider_id = auth.uid() OR driver_id = auth.uid() OR (status = 'requested' AND public.is_approved_driver()) OR public.is_admin());
CREATE POLICY rides_request ON public.rides FOR INSERT TO authenticated
    WITH CHECK (rider_id = auth.uid() AND driver_id IS NULL AND status = 'requested');
CREATE POLICY rides_cancel ON public.rides FOR UPDATE TO authenticated
    USING (rider_id = auth.uid() AND status IN ('requested', 'accepted')) WITH CHECK (rider_id = auth.uid() AND status = 'cancelled');
CREATE POLICY rides_drive ON public.rides FOR UPDATE TO authenticated
    USING (driver_id = auth.uid()) WITH CHECK (driver_id = auth.uid() AND status IN ('started', 'completed', 'cancelled'));
CREATE POLICY locations_own ON public.driver_locations FOR ALL TO authenticated USING (driver_id = auth.uid()) WITH CHECK (driver_id = auth.uid());
CREATE POLICY locations_of_my_ride ON public.driver_locations FOR SELECT TO authenticated
    USING (EXISTS (SELECT 1 FROM public.rides r WHERE r.driver_id = driver_locations.driver_id AND r.rider_id = auth.uid() AND r.status IN ('accepted', 'started')));
CREATE POLICY wallets_own ON public.wallets FOR SELECT TO authenticated USING (user_id = auth.uid());
CREATE POLICY payments_read ON public.payments FOR SELECT TO authenticated USING (payer_id = auth.uid() OR public.is_admin());
CREATE POLICY ratings_read ON public.ratings FOR SELECT TO authenticated USING (EXISTS (SELECT 1 FROM public.rides r WHERE r.id = ride_id AND auth.uid() IN (r.rider_id, r.driver_id)));
CREATE POLICY ratings_give ON public.ratings FOR INSERT TO authenticated
    WITH CHECK (rater_id = auth.uid() AND EXISTS (SELECT 1 FROM public.rides r WHERE r.id = ride_id AND r.rider_id = auth.uid() AND r.status = 'completed'));

REVOKE TRUNCATE ON ALL TABLES IN SCHEMA public FROM anon, authenticated;
REVOKE INSERT, UPDATE, DELETE ON public.wallets, public.payments FROM anon, authenticated;
REVOKE UPDATE ON public.drivers FROM anon, authenticated;
GRANT UPDATE (license_no, bio) ON public.drivers TO authenticated;

INSERT INTO storage.buckets (id, name, public) VALUES ('driver-docs', 'driver-docs', FALSE), ('avatars', 'avatars', TRUE);
CREATE POLICY "driver docs upload" ON storage.objects FOR INSERT TO authenticated
    WITH CHECK (bucket_id = 'driver-docs' AND (storage.foldername(name))[1] = auth.uid()::text);
CREATE POLICY "driver docs read" ON storage.objects FOR SELECT TO authenticated
    USING (bucket_id = 'driver-docs' AND ((storage.foldername(name))[1] = auth.uid()::text OR public.is_admin()));
CREATE POLICY "avatars upload" ON storage.objects FOR INSERT TO authenticated
    WITH CHECK (bucket_id = 'avatars' AND (storage.foldername(name))[1] = auth.uid()::text);
ALTER PUBLICATION supabase_realtime ADD TABLE public.rides, public.driver_locations;
