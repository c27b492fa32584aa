from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from rustic_ai.llm_queue.tasks.call import Call, Endpoint, ServiceTier
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.policy.allowed_endpoint import AllowedEndpoint
from rustic_ai.llm_queue.tasks.policy.headers import FORBIDDEN_HEADERS

from ..failures.classify import NoCredential, PolicyViolation
from .extras import AZURE_AD, require, require_extra
from .worker_keys import KEYLESS, REFUSED_PROVIDERS, provider_of, variables, worker_key

#: A model's name ends up in URLs: no scheme, no way up, no query.
_MODEL = re.compile(r"(?!.*(?:\.\.|//))[\w.:@+/ -]+")
#: It ends up in a host name of Google's.
_REGION = re.compile(r"[a-z0-9-]{1,64}")
_VERSION = re.compile(r"[\w.-]{1,64}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
#: They authenticate a caller. Beside a worker's key, one request would carry two credentials.
_CREDENTIAL_HEADERS = frozenset({"api-key", "authorization", "x-api-key", "x-goog-api-key"})
#: LiteLLM reads these as "look it up in the worker's own secrets".
_REFERENCES = ("os.environ/", "oidc/")
_METADATA_HOSTS = frozenset({"metadata", "metadata.google.internal", "metadata.goog"})
#: `aiohttp_openai` is LiteLLM's way to OpenAI's form past the client whose rules hold for all others.
_ALIASES = {"google/": "gemini/", "aiohttp_openai/": "openai/"}
_PLACEHOLDER_KEY = "no-key"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the calls for one model go, and with whose credentials."""

    model: str
    provider: str | None
    #: LiteLLM's arguments for it, `model` among them.
    options: Mapping[str, Any] = field(repr=False)
    #: A name of the operator's LiteLLM config, to be called through its router.
    routed: bool = False
    #: The address is the job's own, and none that the operator allowed: its server may report anything.
    foreign: bool = False
    #: USD for an input and an output token, where the operator's config says so.
    prices: tuple[float, float] | None = None
    #: The id that the operator's LiteLLM config gives the one of a name's deployments it goes to.
    deployment: str | None = None
    #: The tier that is asked of its provider; None where nothing is sent.
    service_tier: ServiceTier | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not show in a message about this target."""
        values = [self.options.get("api_key"), *(self.options.get("extra_headers") or {}).values()]
        return tuple(value for value in values if isinstance(value, str))


class Credentials:
    """Decides which of a job's and a worker's credentials go with which model.

    A job's endpoint belongs to the provider of its primary model and to no other; a worker's key
    goes to its provider's own address and those the operator allowed, and to no other.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        allowed_endpoints: Collection[AllowedEndpoint] = (),
        config_providers: Mapping[str, frozenset[str]] | None = None,
    ) -> None:
        """`config_providers` are the providers behind each name of the operator's LiteLLM config."""
        self._environment = environment
        self._allowed = allowed_endpoints
        self._config = config_providers or {}

    def check(self, call: Call) -> None:
        """Raises `PolicyViolation` when the job may not run as it is, before anything is sent."""
        endpoint = call.endpoint
        _check_endpoint(endpoint)
        for model in (_owner_model(call), call.model, *call.fallback_models):
            if model not in self._config:
                _check_model(model)
        if endpoint.base_url is not None:
            self._endpoint_options(self._primary_provider(call), endpoint)
        elif endpoint != Endpoint():
            self._require_one_provider(_owner_model(call))

    def allows(self, call: Call) -> bool:
        """Whether the operator has this very `base_url` on the list for its provider."""
        base_url = call.endpoint.base_url
        return base_url is not None and self._is_allowed(self._primary_provider(call), base_url)

    def names_of(self, call: Call, model: str) -> tuple[str, ...]:
        """What a model is known by: its name as given, where that says all, and `provider/model`."""
        if model in self._config:
            return (model,)
        name, given = _alias(model), model == _owner_model(call) and call.endpoint.custom_llm_provider
        provider = (
            self._primary_provider(call) if given else provider_of(name) or self._primary_provider(call)
        )
        qualified = f"{provider}/{name.removeprefix(f'{provider}/')}"
        return (qualified,) if given else (model, qualified)

    def is_routed(self, model: str) -> bool:
        """Whether a model is a name of the operator's LiteLLM config."""
        return model in self._config

    def _require_one_provider(self, model: str) -> None:
        behind = self._config.get(model)
        if behind is not None and len(behind) != 1:
            raise PolicyViolation(
                ErrorKind.ENDPOINT_NOT_ALLOWED,
                f"{model!r} stands for models of several providers here, so no api_key, organization or "
                "header of one of them may go with it",
            )

    def target(self, call: Call, model: str) -> Target:
        """Where calls for `model`, the primary one or a fallback, go.

        Raises `PolicyViolation`, or `NoCredential` when this worker has no key for the provider.
        """
        endpoint = call.endpoint
        owner, primary = _owner_model(call), self._primary_provider(call)
        if model in self._config and not (model == owner and endpoint.base_url is not None):
            own = self._endpoint_options(primary, endpoint) if model == owner else {}
            return Target(model, None, own, routed=True)
        name = _alias(model)
        provider = primary if model == owner else provider_of(name)
        options: dict[str, Any] = {"model": name}
        if provider is None and primary is not None:
            # A model that names no provider is served where the primary model is.
            provider, options["custom_llm_provider"] = primary, primary
        if provider is None:
            raise PolicyViolation(
                ErrorKind.BAD_REQUEST,
                f"no provider is known for the model {model[:100]!r}: name it as provider/model, such as "
                "openai/gpt-4o",
            )
        if provider is not None and provider == primary:
            options |= self._endpoint_options(provider, endpoint)
        foreign = "api_base" in options and not self._is_allowed(provider, options["api_base"])
        return self.keyed(Target(model, provider, options, foreign=foreign))

    def keyed(self, target: Target) -> Target:
        """`target` with this worker's key unless it has one. Raises `NoCredential`, `MissingExtra`."""
        require_extra(target.provider)
        if "api_key" in target.options or target.provider is None:
            return target
        return replace(target, options={**target.options, **self._worker_options(target.provider)})

    def _primary_provider(self, call: Call) -> str | None:
        owner = _owner_model(call)
        behind = self._config.get(owner)
        if behind and len(behind) == 1 and call.endpoint.base_url is None:
            return next(iter(behind))
        return provider_of(_alias(owner), call.endpoint.custom_llm_provider)

    def _endpoint_options(self, provider: str | None, endpoint: Endpoint) -> dict[str, Any]:
        key = endpoint.api_key.get_secret_value() if endpoint.api_key else None
        options = {
            "api_key": key,
            "organization": endpoint.organization_id,
            "extra_headers": dict(endpoint.extra_headers) or None,
            "api_version": endpoint.api_version,
            "custom_llm_provider": endpoint.custom_llm_provider,
            "vertex_location": endpoint.vertex_location,
            "vertex_project": endpoint.vertex_project,
        }
        if endpoint.base_url is not None:
            options["api_base"] = endpoint.base_url
            options["api_key"] = key or self._key_for(provider, endpoint.base_url)
            if key and (provider is None or not variables(provider)):
                # Its credentials are no single key, so the worker's own might be sent along.
                self._require_allowed(provider, endpoint.base_url)
        return {name: value for name, value in options.items() if value is not None}

    def _key_for(self, provider: str | None, base_url: str) -> str:
        if not self._is_allowed(provider, base_url):
            raise PolicyViolation(
                ErrorKind.CREDENTIAL_REQUIRED,
                f"base_url {_shown(base_url)} needs an api_key of its own: this worker's key for "
                f"{provider or 'that provider'} goes only to addresses in LLM_QUEUE_ALLOWED_ENDPOINTS",
            )
        return worker_key(provider or "", self._environment) or _PLACEHOLDER_KEY

    def _require_allowed(self, provider: str | None, base_url: str) -> None:
        if not self._is_allowed(provider, base_url):
            raise PolicyViolation(
                ErrorKind.ENDPOINT_NOT_ALLOWED,
                f"base_url {_shown(base_url)} is not in LLM_QUEUE_ALLOWED_ENDPOINTS, and "
                f"{provider or 'the provider of this model'} takes no single key",
            )

    def _is_allowed(self, provider: str | None, base_url: str) -> bool:
        return provider is not None and any(entry.admits(provider, base_url) for entry in self._allowed)

    def _worker_options(self, provider: str) -> dict[str, Any]:
        names = variables(provider)
        if not names:
            return {}
        key = worker_key(provider, self._environment)
        if key is None and provider.startswith("azure") and self._environment.get("AZURE_TENANT_ID"):
            # LiteLLM logs in to Azure AD with what stands beside it.
            require(provider, *AZURE_AD)
            return {}
        if key is None and provider not in KEYLESS:
            raise NoCredential(
                f"no API key for {provider}: set {names[0]} on the worker, or give api_key with the model"
            )
        return {"api_key": key or _PLACEHOLDER_KEY}


def _owner_model(call: Call) -> str:
    """The model whose provider the endpoint belongs to, which a call may override."""
    return call.endpoint_model or call.model


def _alias(model: str) -> str:
    for prefix, ours in _ALIASES.items():
        if model.startswith(prefix):
            return ours + model.removeprefix(prefix)
    return model


def _check_model(model: str) -> None:
    if not _MODEL.fullmatch(model):
        raise PolicyViolation(ErrorKind.BAD_REQUEST, f"{model[:100]!r} is not the name of a model")
    if model.split("/", 1)[0] in REFUSED_PROVIDERS:
        raise PolicyViolation(ErrorKind.MODEL_NOT_ALLOWED, f"workers do not call the provider of {model!r}")


def _check_endpoint(endpoint: Endpoint) -> None:
    key = endpoint.api_key.get_secret_value() if endpoint.api_key else None
    texts = [key, endpoint.base_url, endpoint.organization_id, *endpoint.extra_headers.values()]
    if any(text is not None and text.strip().startswith(_REFERENCES) for text in texts):
        raise PolicyViolation(ErrorKind.BAD_REQUEST, "a job may not refer to the worker's own secrets")
    if any(text is not None and not text.isprintable() for text in texts):
        raise PolicyViolation(ErrorKind.BAD_REQUEST, "an endpoint's values are single lines of text")
    for name, value, pattern in (
        ("api_version", endpoint.api_version, _VERSION),
        ("vertex_location", endpoint.vertex_location, _REGION),
        ("vertex_project", endpoint.vertex_project, _REGION),
        ("custom_llm_provider", endpoint.custom_llm_provider, _VERSION),
    ):
        if value is not None and not pattern.fullmatch(value):
            raise PolicyViolation(ErrorKind.BAD_REQUEST, f"{name} {value[:64]!r} is not of its form")
    if endpoint.custom_llm_provider in REFUSED_PROVIDERS:
        raise PolicyViolation(
            ErrorKind.MODEL_NOT_ALLOWED, f"workers do not call the provider {endpoint.custom_llm_provider!r}"
        )
    for name in endpoint.extra_headers:
        if not _HEADER_NAME.fullmatch(name) or name.lower() in FORBIDDEN_HEADERS:
            raise PolicyViolation(ErrorKind.BAD_REQUEST, f"extra_headers may not hold {name[:64]!r}")
        if key is None and name.lower() in _CREDENTIAL_HEADERS:
            raise PolicyViolation(
                ErrorKind.CREDENTIAL_REQUIRED,
                f"extra_headers may not hold {name[:64]!r} beside this worker's key: give api_key instead",
            )
    if endpoint.base_url is not None:
        _check_base_url(endpoint.base_url)


def _check_base_url(base_url: str) -> None:
    try:
        parts = urlsplit(base_url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host or parts.username is not None:
        raise PolicyViolation(
            ErrorKind.ENDPOINT_NOT_ALLOWED, "base_url is not an http or https URL without a user name"
        )
    # Where clouds hand out their machines' credentials.
    if host.lower().rstrip(".") in _METADATA_HOSTS or _is_link_local(host):
        raise PolicyViolation(ErrorKind.ENDPOINT_NOT_ALLOWED, f"base_url {_shown(base_url)} is link-local")


def _is_link_local(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            # A number such as 2852039166 or 0xa9.254.43518 is an address, too.
            address = ipaddress.ip_address(socket.inet_aton(host))
        except (OSError, ValueError):
            return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_link_local


def _shown(base_url: str) -> str:
    parts = urlsplit(base_url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"[:200]
