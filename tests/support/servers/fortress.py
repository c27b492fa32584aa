"""A queue as an operator would harden it: ACL, TLS, sealing, and a worker whose every key is a canary."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rustic_ai.llm_queue.tasks.privacy.seal import make_key
from rustic_ai.llm_queue.worker.provider.targets.key_variables import KEY_VARIABLES
from support.providers.provider import ProviderStub
from support.servers.certificate import Certificate, make_certificate
from support.servers.ports import free_port
from support.servers.proxy import TcpProxy
from support.servers.roles import PASSWORDS, users_acl
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

#: In each key the worker has, and in nothing else.
CANARY = "canary-of-the-worker"
#: Variables besides a provider's key with which LiteLLM or an SDK below it might make itself known.
_OTHER_CREDENTIALS = (
    "AZURE_AD_TOKEN", "AZURE_CLIENT_SECRET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "DATABRICKS_API_KEY", "LITELLM_PROXY_API_KEY",
    "WATSONX_API_KEY", "OPENAI_ADMIN_KEY", "ANTHROPIC_AUTH_TOKEN", "SNOWFLAKE_JWT",
)  # fmt: skip
#: Calls of one guild that run at once.
SHARE = 3


@dataclass(frozen=True)
class Fortress:
    """The parts, and the URL by which each role reaches Redis."""

    server: ValkeyServer
    proxy: TcpProxy
    certificate: Certificate
    worker: WorkerProcess
    provider: ProviderStub
    sealing_key: str
    metrics_url: str

    def url(self, role: str) -> str:
        """`rediss://`, with the role's password and the authority to trust."""
        return tls_url(self.proxy, self.certificate, role)

    def env(self, role: str) -> dict[str, str]:
        """What a process of this role needs."""
        env = {"LLM_QUEUE_REDIS_URL": self.url(role)}
        return env if role == "flower" else env | {"LLM_QUEUE_SEALING_KEYS": self.sealing_key}


def tls_url(proxy: TcpProxy, certificate: Certificate, role: str) -> str:
    """The URL of a role behind a TLS proxy."""
    return f"rediss://{role}:{PASSWORDS[role]}@127.0.0.1:{proxy.port}/0?ssl_ca_certs={certificate.ca_path}"


def canary_keys() -> Mapping[str, str]:
    """A key for every variable that may hold one."""
    names = {name for names in KEY_VARIABLES.values() for name in names} | set(_OTHER_CREDENTIALS)
    return {name: f"{CANARY}-{name}" for name in sorted(names)}


@contextmanager
def built_fortress(provider: ProviderStub, directory: Path) -> Iterator[Fortress]:
    """Start everything, and end it."""
    certificate, sealing_key = make_certificate(directory), make_key()
    with (
        ValkeyServer(acl=users_acl(), append_only=True) as server,
        TcpProxy(server.port, certificate=certificate) as proxy,
    ):
        env = {
            **provider.env(),
            **canary_keys(),
            "LLM_QUEUE_REDIS_URL": tls_url(proxy, certificate, "worker"),
            "LLM_QUEUE_SEALING_KEYS": sealing_key,
            "LLM_QUEUE_LOG_LEVEL": "DEBUG",
            "LLM_QUEUE_RETRY_BASE": "50ms",
            "LLM_QUEUE_RETRY_CAP": "500ms",
            "LLM_QUEUE_ALLOWED_HOSTS": "127.0.0.1",
            "LLM_QUEUE_MAX_RUNNING_PER_GUILD": str(SHARE),
            "LLM_QUEUE_MAX_N": "4",
            "LLM_QUEUE_MAX_BODY_BYTES": "200000",
            "LLM_QUEUE_METRICS_PORT": str(metrics_port := free_port()),
            "AZURE_API_VERSION": "2024-10-21",
        }
        worker = WorkerProcess(env, args=["--loglevel", "DEBUG"], log_path=directory / "worker.log")
        with worker:
            metrics_url = f"http://127.0.0.1:{metrics_port}/metrics"
            yield Fortress(server, proxy, certificate, worker, provider, sealing_key, metrics_url)
