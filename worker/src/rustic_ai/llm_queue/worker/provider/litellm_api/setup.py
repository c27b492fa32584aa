from __future__ import annotations

import logging
import os
from types import ModuleType
from typing import Any

from ...settings import WorkerSettings
from .environment import prepare_environment

_LITELLM_LOGGERS = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router", "litellm")
#: They log URLs with keys in them at INFO, and whole requests at DEBUG.
_TALKATIVE_LOGGERS = ("httpx", "httpcore", "openai", "openai._base_client", "aiohttp", "botocore", "google")


def load_litellm(settings: WorkerSettings) -> ModuleType:
    """Import LiteLLM (7-10 s of CPU the first time) and make it a plain caller of providers.

    It retries nothing, calls nobody back, prints nothing and fetches nothing of its own.
    """
    # Once more: a forked worker may have been given an environment of its own since the import.
    prepare_environment()
    import litellm  # not with this module: it takes seconds

    from ..wire.clients import guard_clients
    from .corrections import correct_litellm

    _choose_settings(settings)
    _silence_loggers()
    _raise_connection_limits()
    correct_litellm()
    guard_clients()
    if settings.litellm_config is None:
        _skip_success_reports()
    return litellm


def _raise_connection_limits() -> None:
    """Once more than in the environment, which is too late when something else imported LiteLLM first."""
    from . import seam

    for name, limit in seam.CONNECTION_LIMITS.items():
        limit.replace(int(os.environ[name]))


def _choose_settings(settings: WorkerSettings) -> None:
    from . import seam

    chosen: dict[str, Any] = {
        "drop_params": True,
        "num_retries": 0,
        # For embeddings at OpenAI it takes 0 retries for "not said", and makes two of its own.
        "DEFAULT_MAX_RETRIES": 0,
        "model_fallbacks": None,
        "cache": None,
        "suppress_debug_info": True,
        "redact_messages_in_exceptions": True,
        "log_raw_request_response": False,
        "user_url_validation": True,
        "user_url_allowed_hosts": list(settings.allowed_hosts),
        "disable_hf_tokenizer_download": True,
        **{name: [] for name in seam.SETTINGS if name.endswith(("callback", "callbacks"))},
    }
    for name, value in chosen.items():
        seam.SETTINGS[name].replace(value)


def _silence_loggers() -> None:
    for name in _LITELLM_LOGGERS:
        # Even its warnings quote provider errors, which may quote the prompt.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    for name in _TALKATIVE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def _skip_success_reports() -> None:
    """A quarter of a call's CPU goes into what only callbacks, such as a router's, and the proxy read.

    That is a report of the call, and its cost and timing in the response's hidden parameters.
    """
    from . import seam

    def report_nothing(**_: object) -> None:
        pass

    for report in seam.SUCCESS_REPORTS:
        report.replace(report_nothing)
