"""Auth: users, passwords, sessions and tokens, as the official service has them.

There is no mail, SSO, MFA or OAuth provider here; those endpoints say so.
The schema is ``sql/platform/00000000000020_auth.sql``.
"""

from harness.servers.auth.service import AuthService

__all__ = ["AuthService"]
