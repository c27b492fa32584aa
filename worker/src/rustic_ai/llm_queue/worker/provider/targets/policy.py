"""Everything a worker refuses a job for, before any provider is called."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address
from urllib.parse import urlsplit

from rustic_ai.llm_queue.tasks.call import Call, EmbeddingCall
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.job import Job
from rustic_ai.llm_queue.tasks.policy.limits import (
    PolicyViolation,
    check_body_size,
    check_limits,
    check_timeout,
)
from rustic_ai.llm_queue.tasks.policy.private_hosts import is_private, is_private_address, plain_host
from rustic_ai.llm_queue.tasks.privacy.seal import plaintext_size

from ...settings import WorkerSettings
from ..embeddings.checks import check_dimensions, check_fallbacks
from ..parameters import check_parameters
from ..service_tiers import asked_tier, tier_at
from .credentials import Credentials


def check_job(job: Job, settings: WorkerSettings) -> None:
    """Raise `PolicyViolation` for a job that need not even be opened: too large, or too long."""
    check_body_size(plaintext_size(job.request), settings)
    check_timeout(job.timeout_ms / 1000, settings)


class Policy:
    """The rules of one worker for an opened call: what it may ask for, of which model, and where.

    Each refusal names its rule. Sealed or not, a job is a tenant's word: what its submitter has
    checked is checked again.
    """

    def __init__(self, settings: WorkerSettings, credentials: Credentials) -> None:
        self._settings = settings
        self._credentials = credentials
        self._hosts = settings.private_hosts()

    def check(self, call: Call) -> None:
        """Raises `PolicyViolation`. Sends nothing."""
        check_parameters(call)
        check_limits(call, self._settings)
        self._credentials.check(call)
        host = self._foreign_host(call)
        if host is not None and is_private(host):
            raise _private(host)
        for model in dict.fromkeys((call.model, *call.fallback_models)):
            self._check_model(call, model)
            self._check_tier(call, model)
        if isinstance(call, EmbeddingCall):
            self._check_embedding(call)

    def _check_embedding(self, call: EmbeddingCall) -> None:
        check_fallbacks(call, self._settings.equivalent_embeddings)
        *_, qualified = self._credentials.names_of(call, call.model)
        check_dimensions(call.params.get("dimensions"), qualified, qualified.partition("/")[0])

    async def check_address(self, call: Call) -> None:
        """Raise `PolicyViolation` when the host of a tenant's `base_url` has a private address.

        A name that looks public can be pointed at any address, also between this and the call: where
        that matters, a firewall has to stand around the workers.
        """
        host = self._foreign_host(call)
        if host is None:
            return
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            return  # the call itself will say so
        addresses = {ip_address(str(entry[4][0]).partition("%")[0]) for entry in found}
        if any(is_private_address(one) and not self._hosts.admits_address(one) for one in addresses):
            raise _private(host)

    def _foreign_host(self, call: Call) -> str | None:
        """The host of the call's own `base_url`, unless the operator allows it."""
        base_url = call.endpoint.base_url
        if base_url is None or self._credentials.allows(call):
            return None
        host = plain_host(urlsplit(base_url).hostname or "")
        return None if self._hosts.admits(host) else host

    def _check_model(self, call: Call, model: str) -> None:
        names = self._credentials.names_of(call, model)
        if not _matches(names, self._settings.allowed_models):
            raise PolicyViolation(
                ErrorKind.MODEL_NOT_ALLOWED,
                f"the model {model[:100]!r} is none of those allowed by LLM_QUEUE_ALLOWED_MODELS",
            )

    def _check_tier(self, call: Call, model: str) -> None:
        """Of a name in the operator's LiteLLM config its deployment decides, once that is picked."""
        asked_tier(call)
        *_, qualified = self._credentials.names_of(call, model)
        if not self._credentials.is_routed(model):
            tier_at(call, qualified, qualified.partition("/")[0])


def _private(host: str) -> PolicyViolation:
    return PolicyViolation(
        ErrorKind.ENDPOINT_NOT_ALLOWED,
        f"base_url: {host[:100]!r} is a private host, and in neither LLM_QUEUE_ALLOWED_ENDPOINTS nor "
        "LLM_QUEUE_ALLOWED_HOSTS",
    )


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)
