#!/usr/bin/env python3
"""Prints one line for each agent: status.py --context-file FILE [--context NAME] NODE...

Without nodes, those of the context. Exits 0 when all are well, 1 when one is not or did not answer, 2 for wrong
usage. Over mTLS, with a deadline, a reason, a request id, typed errors, and repeats as the agent asks for them.
"""

import argparse
import concurrent.futures
import os
import secrets
import stat
import sys
import time
import tomllib

# Refused handshakes are reported below; grpcio would log each attempt as well.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc  # noqa: E402
from google.rpc import error_details_pb2, status_pb2  # noqa: E402

from genesis.v1 import agent_pb2, agent_pb2_grpc  # noqa: E402

TIMEOUT = 10.0  # seconds, for one node, repeats included
ATTEMPTS = 4
PARALLEL = 64


class AgentError(Exception):
    """What an agent answered instead, or why it did not: a stable reason, words, and what stands in the way."""

    def __init__(self, code, reason, message, violations=(), retry_after=None):
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.violations = list(violations)
        self.retry_after = retry_after


def typed(node, error):
    """An AgentError out of an RpcError: the details are in the trailer grpc-status-details-bin."""
    reason, violations, retry_after = "", [], None
    trailers = dict(error.trailing_metadata() or ())
    for detail in status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b"")).details:
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo()
            detail.Unpack(info)
            reason = info.reason
        elif detail.Is(error_details_pb2.PreconditionFailure.DESCRIPTOR):
            failure = error_details_pb2.PreconditionFailure()
            detail.Unpack(failure)
            violations = [f"{unmet.subject}: {unmet.description}" for unmet in failure.violations]
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            detail.Unpack(retry)
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    code, message = error.code(), error.details() or ""
    if not reason and code is grpc.StatusCode.UNAVAILABLE:
        # grpcio says in words only that the two sides refused each other.
        untrusted = ("CERTIFICATE_VERIFY_FAILED", "not in peer certificate", "Hostname Verification")
        # With TLS 1.3 the alert comes when the handshake is over, as something that is no data.
        refused = ("ALERT", "Unwrap failed")
        if any(words in message for words in untrusted):
            code, reason = grpc.StatusCode.UNAUTHENTICATED, "SERVER_NOT_TRUSTED"
            message = f"the certificate of {node} is not to be trusted"
        elif any(words in message for words in refused):
            code, reason = grpc.StatusCode.UNAUTHENTICATED, "CERTIFICATE_REFUSED"
            message = f"{node} refuses the client certificate"
        else:
            reason, message = "AGENT_UNREACHABLE", f"no agent answers at {node}"
    elif not reason and code is grpc.StatusCode.DEADLINE_EXCEEDED:
        reason, message = "AGENT_TIMEOUT", f"{node} did not answer within {TIMEOUT:g} s"
    return AgentError(code, reason, message, violations, retry_after)


def ulid():
    """A new request id: the time in milliseconds, then randomness, in Crockford's base 32."""
    number = int(time.time() * 1000) << 80 | secrets.randbits(80)
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    return "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))


def wrong_usage(message):
    print(f"status.py: {message}", file=sys.stderr)
    raise SystemExit(2)


class Context:
    """One context of a file as `genesisctl context` and `genesis-agent pki issue` write it."""

    def __init__(self, path, name):
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077:
            wrong_usage(f"others may use {path}: run chmod 600 {path}")
        with open(path, "rb") as file:
            contexts = tomllib.load(file)
        name = name or contexts.get("current")
        if name not in contexts.get("context", {}):
            wrong_usage(f"there is no context {name!r} in {path}")
        self.folder = os.path.dirname(os.path.abspath(path))
        self.form = contexts["context"][name]
        self.nodes = self.form.get("nodes", [])

    def pem(self, key):
        if key in self.form:
            return self.form[key].encode()
        if key + "_file" in self.form:
            with open(os.path.join(self.folder, self.form[key + "_file"]), "rb") as file:
                return file.read()
        return None

    def channel(self, node):
        if node.startswith("unix:") or self.pem("ca") is None:
            return grpc.insecure_channel(node)
        credentials = grpc.ssl_channel_credentials(
            self.pem("ca"), self.pem("key"), self.pem("certificate")
        )
        options = []
        if "server_name" in self.form:
            options.append(("grpc.ssl_target_name_override", self.form["server_name"]))
        return grpc.secure_channel(node, credentials, options)


def status(context, node):
    """One node's status. What an overloaded agent sheds is sent again when it says so, within the deadline."""
    metadata = (
        ("genesis-reason", b"status example"),
        # The same for all attempts: the agent carries a changing call out once, however often it arrives.
        ("genesis-request-id", ulid()),
    )
    deadline = time.monotonic() + TIMEOUT
    with context.channel(node) as channel:
        agent = agent_pb2_grpc.AgentServiceStub(channel)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                left = max(deadline - time.monotonic(), 0.001)
                return agent.GetStatus(agent_pb2.GetStatusRequest(), timeout=left, metadata=metadata)
            except grpc.RpcError as error:
                failure = typed(node, error)
            shed = failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            pause = failure.retry_after
            if not shed or pause is None or attempt == ATTEMPTS:
                raise failure
            if time.monotonic() + pause >= deadline:
                raise failure
            time.sleep(pause)


def main():
    parser = argparse.ArgumentParser(description="One line for each agent.")
    parser.add_argument("--context-file", required=True)
    parser.add_argument("--context")
    parser.add_argument("nodes", nargs="*")
    arguments = parser.parse_args()
    try:
        context = Context(arguments.context_file, arguments.context)
    except (OSError, tomllib.TOMLDecodeError) as error:
        wrong_usage(f"{arguments.context_file}: {error}")
    nodes = arguments.nodes or context.nodes
    well = True
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        asked = [(node, pool.submit(status, context, node)) for node in nodes]
        for node, answer in asked:
            try:
                found = answer.result()
                condition = agent_pb2.Condition.Name(found.condition).removeprefix("CONDITION_")
                print(node, condition, found.hostname, found.version, flush=True)
                well = well and condition == "OK"
            except AgentError as error:
                print(node, "ERROR", error.reason or error.code.name, error, flush=True)
                for violation in error.violations:
                    print(f"{node}: {violation}", file=sys.stderr)
                well = False
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
