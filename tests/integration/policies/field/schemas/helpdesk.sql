-- multi tenant helpdesk; tenant and role come from app_metadata: {"org_id": "...", "org_role": "agent" | "lead" | "customer"}
CREATE SCHEMA IF NOT EXISTS desk_private;
CREATE TABLE orgs (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  name text NOT NULL, plan text NOT NULL DEFAULT 'trial' CHECK (plan IN ('trial','standard','enterprise')), seats smallint NOT NULL DEFAULT 3
);
CREATE TABLE people (
  org_id uuid NOT NULL REFERENCES orgs ON DELETE CASCADE,
  user_id uuid NOT NULL REFERENCES auth.users ON DELETE CASCADE,
  kind text NOT NULL CHECK (kind IN ('agent','lead','customer')),
  email text NOT NULL,
  PRIMARY KEY (org_id, user_id)
);
CREATE TABLE tickets (
  org_id uuid NOT NULL REFERENCES orgs ON DELETE CASCADE,
  number int NOT NULL,
  requester_id uuid NOT NULL,
  assignee_id uuid,
  subject text NOT NULL,
  status text NOT NULL DEFAULT 'new' CHECK (status IN ('new','open','solved','closed')),
  priority int NOT NULL DEFAULT 2 CHECK (priority BETWEEN 1 AND 4),
  deleted_at timestamptz,
  PRIMARY KEY (org_id, number),
  FOREIGN KEY (org_id, requester_id) REFERENCES people (org_id, user_id),
  FOREIGN KEY (org_id, assignee_id) REFERENCES people (org_id, user_id)
);
CREATE TABLE ticket_messages (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  org_id uuid NOT NULL, ticket_number int NOT NULL,
  author_id uuid NOT NULL DEFAULT auth.uid(),
  body text NOT NULL, internal boolean NOT NULL DEFAULT false, created_at timestamptz NOT NULL DEFAULT now(),
  FOREIGN KEY (org_id, ticket_number) REFERENCES tickets (org_id, number) ON DELETE CASCADE,
  FOREIGN KEY (org_id, author_id) REFERENCES people (org_id, user_id)
);
CREATE TABLE macros (
  id bigserial PRIMARY KEY, org_id uuid NOT NULL REFERENCES orgs ON DELETE CASCADE,
  owner_id uuid REFERENCES auth.users ON DELETE CASCADE, title text NOT NULL, template text NOT NULL
);
CREATE TABLE tags ( org_id uuid NOT NULL REFERENCES orgs ON DELETE CASCADE, name text NOT NULL, PRIMARY KEY (org_id, name) );
CREATE TABLE ticket_tags (
  org_id uuid NOT NULL, ticket_number int NOT NULL, tag text NOT NULL,
  PRIMARY KEY (org_id, ticket_number, tag),
  FOREIGN KEY (org_id, ticket_number) REFERENCES tickets (org_id, number) ON DELETE CASCADE,
  FOREIGN KEY (org_id, tag) REFERENCES tags (org_id, name) ON DELETE CASCADE
);
CREATE TABLE csat (
  org_id uuid NOT NULL, ticket_number int NOT NULL, customer_id uuid NOT NULL DEFAULT auth.uid(), score int NOT NULL CHECK (score IN (1,2,3,4,5)), comment text,
  PRIMARY KEY (org_id, ticket_number),
  FOREIGN KEY (org_id, ticket_number) REFERENCES tickets (org_id, number) ON DELETE CASCADE
);
CREATE TABLE audit_log (
  id bigint GENERATED ALWAYS AS IDENTITY, org_id uuid NOT NULL, actor uuid, what text NOT NULL, at timestamptz NOT NULL DEFAULT now(), old_row jsonb,
  PRIMARY KEY (org_id, id)
) PARTITION BY HASH (org_id);
CREATE TABLE audit_log_0 PARTITION OF audit_log FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE audit_log_1 PARTITION OF audit_log FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE desk_private.webhooks ( org_id uuid PRIMARY KEY REFERENCES orgs ON DELETE CASCADE, url text NOT NULL, secret text NOT NULL );
CREATE INDEX ON people (user_id); CREATE INDEX ON tickets (requester_id); CREATE INDEX ON tickets (org_id, assignee_id);
CREATE INDEX ON ticket_messages (org_id, ticket_number); CREATE INDEX ON macros (org_id); CREATE INDEX ON macros (owner_id); CREATE INDEX ON csat (customer_id);

CREATE FUNCTION current_org() RETURNS uuid LANGUAGE sql STABLE AS
$$ SELECT nullif(auth.jwt() -> 'app_metadata' ->> 'org_id', '')::uuid $$;
CREATE FUNCTION org_role() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT coalesce(auth.jwt() -> 'app_metadata' ->> 'org_role', 'none') $$;
CREATE FUNCTION is_agent() RETURNS boolean LANGUAGE sql STABLE AS
$$ SELECT org_role() IN ('agent', 'lead') $$;

CREATE FUNCTION desk_private.next_number() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
  IF NEW.number IS NULL THEN
    SELECT coalesce(max(number), 0) + 1 INTO NEW.number FROM tickets WHERE org_id = NEW.org_id;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER next_number BEFORE INSERT ON tickets FOR EACH ROW EXECUTE FUNCTION desk_private.next_number();
CREATE FUNCTION desk_private.write_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
  INSERT INTO audit_log (org_id, actor, what, old_row) VALUES (OLD.org_id, auth.uid(), TG_TABLE_NAME || ' ' || lower(TG_OP), to_jsonb(OLD));
  RETURN NULL;
END $$;
CREATE TRIGGER write_audit AFTER UPDATE OR DELETE ON tickets FOR EACH ROW EXECUTE FUNCTION desk_private.write_audit();
CREATE FUNCTION desk_private.customer_limits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF org_role() = 'customer' THEN
    IF (NEW.org_id, NEW.number, NEW.requester_id, NEW.assignee_id, NEW.priority) IS DISTINCT FROM (OLD.org_id, OLD.number, OLD.requester_id, OLD.assignee_id, OLD.priority) THEN
      RAISE EXCEPTION 'customers change subject and status only' USING ERRCODE = '42501';
    END IF;
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER customer_limits BEFORE UPDATE ON tickets FOR EACH ROW EXECUTE FUNCTION desk_private.customer_limits();

CREATE FUNCTION assign_ticket(n int, agent uuid) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
  IF NOT is_agent() THEN RAISE EXCEPTION 'agents only' USING ERRCODE = '42501'; END IF;
  UPDATE tickets SET assignee_id = agent, status = 'open' WHERE org_id = current_org() AND number = n AND status <> 'closed';
END $$;
CREATE FUNCTION purge_ticket(o uuid, n int) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
BEGIN
  IF o IS DISTINCT FROM current_org() OR org_role() <> 'lead' THEN RAISE EXCEPTION 'leads only' USING ERRCODE = '42501'; END IF;
  DELETE FROM tickets WHERE org_id = o AND number = n;
END $$;
CREATE FUNCTION org_stats() RETURNS TABLE (status text, n bigint) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS
$$ SELECT t.status, count(*) FROM tickets t WHERE t.org_id = current_org() AND is_agent() GROUP BY t.status $$;
REVOKE EXECUTE ON FUNCTION assign_ticket(int, uuid), purge_ticket(uuid, int), org_stats() FROM PUBLIC, anon;
GRANT EXECUTE ON FUNCTION assign_ticket(int, uuid), purge_ticket(uuid, int), org_stats() TO authenticated;

ALTER TABLE orgs ENABLE ROW LEVEL SECURITY; ALTER TABLE people ENABLE ROW LEVEL SECURITY; ALTER TABLE tickets ENABLE ROW LEVEL SECURITY;
ALTER TABLE ticket_messages ENABLE ROW LEVEL SECURITY; ALTER TABLE macros ENABLE ROW LEVEL SECURITY; ALTER TABLE tags ENABLE ROW LEVEL SECURITY;
ALTER TABLE ticket_tags ENABLE ROW LEVEL SECURITY; ALTER TABLE csat ENABLE ROW LEVEL SECURITY; ALTER TABLE audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_log_0 ENABLE ROW LEVEL SECURITY; ALTER TABLE audit_log_1 ENABLE ROW LEVEL SECURITY; ALTER TABLE desk_private.webhooks ENABLE ROW LEVEL SECURITY;

CREATE POLICY org_read ON orgs FOR SELECT TO authenticated USING (id = (SELECT current_org()));
CREATE POLICY people_read ON people FOR SELECT TO authenticated USING (org_id = (SELECT current_org()) AND ((SELECT is_agent()) OR user_id = (SELECT auth.uid()) OR kind <> 'customer'));
CREATE POLICY people_lead ON people FOR ALL TO authenticated USING (org_id = (SELECT current_org()) AND (SELECT org_role()) = 'lead') WITH CHECK (org_id = (SELECT current_org()) AND (SELECT org_role()) = 'lead');
CREATE POLICY tickets_agent ON tickets FOR ALL TO authenticated
  USING (org_id = (SELECT current_org()) AND (SELECT is_agent()) AND deleted_at IS NULL) WITH CHECK (org_id = (SELECT current_org()) AND (SELECT is_agent()));
CREATE POLICY tickets_customer_read ON tickets FOR SELECT TO authenticated USING (org_id = (SELECT current_org()) AND requester_id = (SELECT auth.uid()) AND deleted_at IS NULL);
CREATE POLICY tickets_customer_open ON tickets FOR INSERT TO authenticated WITH CHECK (org_id = (SELECT current_org()) AND requester_id = (SELECT auth.uid()) AND assignee_id IS NULL AND status = 'new');
CREATE POLICY tickets_customer_edit ON tickets FOR UPDATE TO authenticated
  USING (org_id = (SELECT current_org()) AND requester_id = (SELECT auth.uid()) AND status <> 'closed' AND deleted_at IS NULL)
  WITH CHECK (org_id = (SELECT current_org()) AND requester_id = (SELECT auth.uid()) AND status IN ('new', 'open', 'solved') AND deleted_at IS NULL);
CREATE POLICY messages_read ON ticket_messages FOR SELECT TO authenticated
  USING (EXISTS (SELECT 1 FROM tickets t WHERE t.org_id = ticket_messages.org_id AND t.number = ticket_messages.ticket_number) AND (NOT internal OR (SELECT is_agent())));
CREATE POLICY messages_write ON ticket_messages FOR INSERT TO authenticated
  WITH CHECK (author_id = (SELECT auth.uid()) AND EXISTS (SELECT 1 FROM tickets t WHERE t.org_id = ticket_messages.org_id AND t.number = ticket_messages.ticket_number) AND (NOT internal OR (SELECT is_agent())));
CREATE POLICY macros_read ON macros FOR SELECT TO authenticated USING (org_id = (SELECT current_org()) AND (SELECT is_agent()) AND (owner_id IS NULL OR owner_id = (SELECT auth.uid())));
CREATE POLICY macros_write ON macros FOR ALL TO authenticated
  USING (org_id = (SELECT current_org()) AND (SELECT is_agent()) AND owner_id = (SELECT auth.uid())) WITH CHECK (org_id = (SELECT current_org()) AND (SELECT is_agent()) AND owner_id = (SELECT auth.uid()));
CREATE POLICY tags_read ON tags FOR SELECT TO authenticated USING (org_id = (SELECT current_org()));
CREATE POLICY tags_agent ON tags FOR ALL TO authenticated USING (org_id = (SELECT current_org()) AND (SELECT is_agent())) WITH CHECK (org_id = (SELECT current_org()) AND (SELECT is_agent()));
CREATE POLICY ticket_tags_agent ON ticket_tags FOR ALL TO authenticated USING (org_id = (SELECT current_org()) AND (SELECT is_agent())) WITH CHECK (org_id = (SELECT current_org()) AND (SELECT is_agent()));
CREATE POLICY csat_read ON csat FOR SELECT TO authenticated USING (org_id = (SELECT current_org()) AND ((SELECT is_agent()) OR customer_id = (SELECT auth.uid())));
CREATE POLICY csat_give ON csat FOR INSERT TO authenticated WITH CHECK (customer_id = (SELECT auth.uid())
  AND EXISTS (SELECT 1 FROM tickets t WHERE t.org_id = csat.org_id AND t.number = csat.ticket_number AND t.requester_id = (SELECT auth.uid()) AND t.status IN ('solved', 'closed')));
CREATE POLICY audit_lead ON audit_log FOR SELECT TO authenticated USING (org_id = (SELECT current_org()) AND (SELECT org_role()) = 'lead');

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM anon;
REVOKE TRUNCATE ON ALL TABLES IN SCHEMA public FROM authenticated;
REVOKE INSERT, UPDATE, DELETE ON orgs, audit_log, audit_log_0, audit_log_1 FROM authenticated;

INSERT INTO storage.buckets (id, name, public) VALUES ('ticket-files', 'ticket-files', false);
-- <org>/<ticket number>/<file>
CREATE POLICY "files read" ON storage.objects FOR SELECT TO authenticated
  USING (bucket_id = 'ticket-files' AND (storage.foldername(name))[1] = (SELECT current_org())::text
    AND ((SELECT is_agent()) OR (storage.foldername(name))[2] IN (SELECT t.number::text FROM public.tickets t WHERE t.org_id = (SELECT current_org()) AND t.requester_id = (SELECT auth.uid()))));
CREATE POLICY "files add" ON storage.objects FOR INSERT TO authenticated
  WITH CHECK (bucket_id = 'ticket-files' AND (storage.foldername(name))[1] = (SELECT current_org())::text
    AND ((SELECT is_agent()) OR (storage.foldername(name))[2] IN (SELECT t.number::text FROM public.tickets t WHERE t.org_id = (SELECT current_org()) AND t.requester_id = (SELECT auth.uid()))));
CREATE POLICY "org feed" ON realtime.messages FOR SELECT TO authenticated
  USING ((SELECT is_agent()) AND realtime.topic() = 'org:' || (SELECT current_org())::text);
