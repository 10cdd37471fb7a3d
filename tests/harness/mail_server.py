"""A real mail server (aiosmtpd) that wants TLS and a login, and prints each mail as a line of JSON.

mail_server.py starttls|tls CERTIFICATE KEY USER PASSWORD; its first line is its port.
"""

import asyncio
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

way, certificate, key, user, password = sys.argv[1:]


class Sink:
    async def handle_DATA(self, server, session, envelope):
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "text": envelope.content.decode(),
            "tls": session.ssl is not None or way == "tls",
            "login": session.authenticated,
        }
        print(json.dumps(mail), flush=True)
        return "250 kept"


def login(server, session, envelope, mechanism, given):
    known = LoginPassword(user.encode(), password.encode())
    return AuthResult(success=given == known, handled=False)


def serve(context):
    def protocol():
        return SMTP(
            Sink(),
            hostname="localhost",
            tls_context=context if way == "starttls" else None,
            require_starttls=way == "starttls",
            authenticator=login,
            auth_required=True,
            # Here it is encrypted from the first byte, which the protocol does not see.
            auth_require_tls=way == "starttls",
        )

    return protocol


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.get_running_loop().create_server(
        serve(context), "127.0.0.1", 0, ssl=context if way == "tls" else None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
