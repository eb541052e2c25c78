// Auth by the official JavaScript client: every call that needs no mail or provider.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createClient } from "@supabase/supabase-js";
import WebSocket from "ws";

const { SUPABASE_URL, SUPABASE_PUBLISHABLE_KEY, SUPABASE_SECRET_KEY, TOKEN_ALG } =
  process.env;
const PASSWORD = "correct horse battery";
let people = 0;
const opened = [];

function client(key = SUPABASE_PUBLISHABLE_KEY) {
  const made = createClient(SUPABASE_URL, key, {
    auth: { autoRefreshToken: false, persistSession: true, storage: memory() },
    realtime: { transport: WebSocket },
  });
  opened.push(made);
  return made;
}

function memory() {
  const items = new Map();
  return {
    getItem: (name) => items.get(name) ?? null,
    setItem: (name, value) => void items.set(name, value),
    removeItem: (name) => void items.delete(name),
  };
}

const newEmail = () => `person${(people += 1)}@example.test`;

async function signedUp(data = {}) {
  const supabase = client();
  const email = newEmail();
  const answer = await supabase.auth.signUp({
    email,
    password: PASSWORD,
    options: { data },
  });
  assert.equal(answer.error, null);
  return { supabase, email, user: answer.data.user, session: answer.data.session };
}

function refused({ error }, status, code) {
  assert.ok(error, "an error was expected");
  assert.deepEqual([error.status, error.code], [status, code], error.message);
  assert.ok(error.message);
}

after(() => opened.forEach((each) => each.realtime.disconnect()));

test("signing up, out and in again", async () => {
  const { supabase, email, user, session } = await signedUp({ name: "Ada" });
  assert.equal(user.email, email);
  assert.equal(user.user_metadata.name, "Ada");
  assert.equal(session.token_type, "bearer");
  assert.equal((await supabase.auth.getUser()).data.user.id, user.id);
  assert.equal((await supabase.auth.signOut()).error, null);
  assert.equal((await supabase.auth.getSession()).data.session, null);
  const again = await supabase.auth.signInWithPassword({ email, password: PASSWORD });
  assert.equal(again.data.user.id, user.id);
});

test("refusals carry the official codes", async () => {
  const { supabase, email } = await signedUp();
  const { auth } = supabase;
  refused(await auth.signInWithPassword({ email, password: "no" }), 400, "invalid_credentials");
  refused(await auth.signUp({ email, password: PASSWORD }), 422, "user_already_exists");
  const weak = await auth.signUp({ email: newEmail(), password: "tiny" });
  refused(weak, 422, "weak_password");
  assert.equal(weak.error.name, "AuthWeakPasswordError");
  assert.deepEqual(weak.error.reasons, ["length"]);
  refused(await auth.signUp({ email: "nonsense", password: PASSWORD }), 400, "validation_failed");
  refused(await auth.refreshSession({ refresh_token: "none" }), 400, "refresh_token_not_found");
});

test("what needs mail, a phone or a provider says that it is off", async () => {
  const { supabase, email } = await signedUp();
  const { auth } = supabase;
  refused(await auth.resetPasswordForEmail(email), 422, "email_provider_disabled");
  refused(await auth.signInWithOtp({ email }), 422, "otp_disabled");
  refused(await auth.resend({ type: "signup", email }), 422, "email_provider_disabled");
  refused(await auth.signInWithOtp({ phone: "+1555" }), 422, "otp_disabled");
  refused(await auth.signUp({ phone: "+1555", password: PASSWORD }), 422, "phone_provider_disabled");
  refused(await auth.verifyOtp({ email, token: "123456", type: "email" }), 403, "otp_expired");
  refused(await auth.mfa.enroll({ factorType: "totp" }), 422, "mfa_totp_enroll_not_enabled");
  refused(await auth.signInWithSSO({ domain: "example.test" }), 404, "sso_provider_not_found");
  refused(await auth.linkIdentity({ provider: "github" }), 404, "manual_linking_disabled");
  refused(
    await auth.signInWithIdToken({ provider: "google", token: "x" }), 400, "provider_disabled",
  );
  assert.deepEqual((await auth.mfa.listFactors()).data.all, []);
});

test("an anonymous user becomes a permanent one", async () => {
  const supabase = client();
  const { data } = await supabase.auth.signInAnonymously({ options: { data: { a: 1 } } });
  assert.equal(data.user.is_anonymous, true);
  const email = newEmail();
  const updated = await supabase.auth.updateUser({ email, password: PASSWORD });
  assert.equal(updated.error, null);
  assert.equal(updated.data.user.is_anonymous, false);
  const again = await client().auth.signInWithPassword({ email, password: PASSWORD });
  assert.equal(again.data.user.id, data.user.id);
});

test("metadata and passwords change", async () => {
  const { supabase, email } = await signedUp({ a: 1 });
  const events = [];
  supabase.auth.onAuthStateChange((event) => void events.push(event));
  const { data } = await supabase.auth.updateUser({ data: { b: 2 } });
  assert.equal(data.user.user_metadata.a + data.user.user_metadata.b, 3);
  assert.equal((await supabase.auth.updateUser({ password: "another one" })).error, null);
  refused(await supabase.auth.updateUser({ password: "another one" }), 422, "same_password");
  const again = await client().auth.signInWithPassword({ email, password: "another one" });
  assert.equal(again.error, null);
  assert.ok(events.includes("USER_UPDATED"));
  const identities = (await supabase.auth.getUserIdentities()).data.identities;
  assert.deepEqual(identities.map((each) => each.provider), ["email"]);
});

test("sessions are refreshed, and claims are what the token says", async () => {
  const { supabase, session, user } = await signedUp();
  const refreshed = await supabase.auth.refreshSession();
  assert.notEqual(refreshed.data.session.refresh_token, session.refresh_token);
  const { data } = await supabase.auth.getClaims();
  assert.equal(data.claims.sub, user.id);
  assert.equal(data.claims.role, "authenticated");
  assert.equal(data.header.alg, TOKEN_ALG);
  const aal = await supabase.auth.mfa.getAuthenticatorAssuranceLevel();
  assert.equal(aal.data.currentLevel, "aal1");
  assert.equal(aal.data.currentAuthenticationMethods[0].method, "password");
});

test("a session can be carried to another client", async () => {
  const { session, user } = await signedUp();
  const other = client();
  const set = await other.auth.setSession(session);
  assert.equal(set.data.user.id, user.id);
  const tampered = `${session.access_token.slice(0, -3)}AAA`;
  const wrong = await client().auth.getUser(tampered);
  refused(wrong, 403, "bad_jwt");
});

for (const [scope, alive] of [["global", [false, false]], ["local", [false, true]], ["others", [true, false]]]) {
  test(`signing out ${scope} ends the right sessions`, async () => {
    const { supabase, email } = await signedUp();
    const other = client();
    await other.auth.signInWithPassword({ email, password: PASSWORD });
    const sessions = await Promise.all(
      [supabase, other].map(async (each) => (await each.auth.getSession()).data.session),
    );
    assert.equal((await supabase.auth.signOut({ scope })).error, null);
    const answers = await Promise.all(
      sessions.map((each) => client().auth.getUser(each.access_token)),
    );
    assert.deepEqual(answers.map((each) => each.error === null), alive);
  });
}

test("the secret key administers users", async () => {
  const { admin } = client(SUPABASE_SECRET_KEY).auth;
  const email = newEmail();
  const created = await admin.createUser({
    email,
    password: PASSWORD,
    email_confirm: true,
    app_metadata: { plan: "free" },
    user_metadata: { name: "Eve" },
  });
  const { id } = created.data.user;
  assert.equal((await admin.getUserById(id)).data.user.email, email);
  const updated = await admin.updateUserById(id, { app_metadata: { plan: "paid" } });
  assert.equal(updated.data.user.app_metadata.plan, "paid");
  // The client reads one digit of a page number, hence few pages.
  const first = await admin.listUsers({ page: 1, perPage: 5 });
  assert.equal(first.data.users.length, 5);
  assert.ok(first.data.total > 5);
  assert.equal(first.data.nextPage, 2);
  assert.equal(first.data.lastPage, Math.ceil(first.data.total / 5));
  const { session } = (await client().auth.signInWithPassword({ email, password: PASSWORD })).data;
  assert.equal((await admin.signOut(session.access_token, "global")).error, null);
  // The client has an error of its own for the code session_not_found.
  const gone = await client().auth.getUser(session.access_token);
  assert.equal(gone.error.name, "AuthSessionMissingError");
  await admin.deleteUser(id);
  refused(await admin.getUserById(id), 404, "user_not_found");
  refused(await admin.createUser({ email: "nonsense" }), 400, "validation_failed");
  refused(await admin.inviteUserByEmail(newEmail()), 422, "email_provider_disabled");
  refused(
    await admin.generateLink({ type: "magiclink", email }), 422, "email_provider_disabled",
  );
});

test("nobody else administers users", async () => {
  const { supabase } = await signedUp();
  refused(await supabase.auth.admin.listUsers(), 403, "not_admin");
  refused(await client().auth.admin.createUser({ email: newEmail() }), 403, "not_admin");
});
