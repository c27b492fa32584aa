"""What a guild's specification may say, and what it is told when it says something else."""

import copy
import math
import pickle
from typing import Any

import pytest
from pydantic import BaseModel
from rustic_ai.core.guild.agent_ext.depends.dependency_resolver import DependencySpec
from rustic_ai.core.guild.agent_ext.depends.llm.models import Models
from rustic_ai.core.guild.agent_ext.depends.llm.tools_manager import Toolset, ToolsManager, ToolSpec

from rustic_ai.llm_queue.resolver import ConfigurationError, QueueLLMResolver
from rustic_ai.llm_queue.resolver.properties import Properties
from rustic_ai.llm_queue.tasks.privacy.seal import make_key

SECRET = "sk-canary-1234"


class Weather(BaseModel):
    city: str


class WeatherTools(Toolset):
    @classmethod
    def toolsmanager(cls) -> ToolsManager:
        return ToolsManager([ToolSpec(name="weather", description="The weather.", parameter_class=Weather)])


@pytest.fixture
def sealing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_SEALING_KEYS", make_key())


def refusal(**given: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        QueueLLMResolver(**{"model": "gpt-4", **given})
    return str(caught.value)


def toolset_of(class_path: str) -> dict[str, str]:
    return {"type": "toolset_class", "class_path": class_path}


def test_the_defaults_are_those_of_the_table() -> None:
    properties = QueueLLMResolver(model="gpt-4").properties
    expected: dict[str, Any] = {
        "api_key": None,
        "organization_id": None,
        "base_url": None,
        "timeout": 600.0,
        "max_retries": 2,
        "fallback_models": (),
        "temperature": 0.7,
        "max_tokens": None,
        "top_p": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "extra_headers": {},
        "priority": 3,
        "on_worker_loss": "retry",
    }
    assert {name: getattr(properties, name) for name in expected} == expected


@pytest.mark.usefixtures("sealing")
def test_every_property_of_the_table_is_taken_from_a_dependency_spec() -> None:
    given: dict[str, Any] = {
        "model": "gpt-4",
        "api_key": SECRET,
        "organization_id": "org-1",
        "base_url": "https://llm.example/v1",
        "timeout": 30,
        "max_retries": 5,
        "fallback_models": ["gpt-3.5-turbo", "anthropic/claude-3-5-haiku-latest"],
        "temperature": 0.5,
        "max_tokens": 1000,
        "top_p": 0.9,
        "frequency_penalty": -0.5,
        "presence_penalty": 0.5,
        "extra_headers": {"X-Team": "blue"},
    }
    spec = DependencySpec(class_name="rustic_ai.llm_queue.resolver.QueueLLMResolver", properties=given)
    resolver = spec.to_resolver()
    assert isinstance(resolver, QueueLLMResolver)
    properties = resolver.properties
    assert properties.api_key is not None
    assert properties.api_key.get_secret_value() == given.pop("api_key")
    assert properties.model_dump(mode="json", include=set(given)) == given


def test_upstreams_shape_with_conf_is_taken() -> None:
    conf = {
        "messages": [{"role": "system", "content": "Be brief."}],
        "base_url": "https://llm.example",
        "api_version": "2024-06-01",
        "custom_llm_provider": "azure",
        "timeout": 12.5,
        "vertex_location": "us-central1",
        "vertex_project": "p",
        "stream": False,
        "message_memory": 5,
        "filter_attachments": True,
        "extract_tool_calls": True,
        "skip_chat_response_on_tool_call": True,
        "retries_on_tool_parse_error": 3,
        "enable_json_schema_validation": False,
    }
    before = copy.deepcopy(conf)
    properties = QueueLLMResolver("gpt-4", conf).properties
    assert properties.timeout == 12.5
    assert properties.messages is not None
    assert properties.messages[0].content == "Be brief."
    assert (properties.api_version, properties.vertex_project) == ("2024-06-01", "p")
    assert conf == before


def test_two_resolvers_share_nothing() -> None:
    first, second = QueueLLMResolver("gpt-4"), QueueLLMResolver("gpt-4o")
    assert (first.properties.model, second.properties.model) == ("gpt-4", "gpt-4o")


def test_a_flat_property_goes_before_its_like_in_conf() -> None:
    assert QueueLLMResolver("gpt-4", {"timeout": 5}, timeout=7).properties.timeout == 7
    assert QueueLLMResolver("gpt-4", {"model": "other"}).properties.model == "gpt-4"
    assert QueueLLMResolver(conf={"model": "gpt-4"}).properties.model == "gpt-4"


def test_a_models_member_is_a_model() -> None:
    assert QueueLLMResolver(Models.gpt_5_mini).properties.model == "gpt-5-mini"


def test_null_collections_and_blank_texts_are_none_at_all() -> None:
    properties = QueueLLMResolver(
        "gpt-4", fallback_models=None, extra_headers=None, base_url="", organization_id=" "
    ).properties
    assert (properties.fallback_models, properties.extra_headers) == ((), {})
    assert (properties.base_url, properties.organization_id) == (None, None)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"model": ""}, ["model", "''"]),
        ({"model": "   "}, ["model", "give a model"]),
        ({"model": None}, ["model"]),
        ({"model": 4}, ["model", "4"]),
        ({"temprature": 0.5}, ["temprature", "'temperature'"]),
        ({"fallback_model": ["x"]}, ["fallback_model", "'fallback_models'"]),
        ({"api_base": "http://x"}, ["api_base", "'base_url'"]),
        ({"num_retries": 1}, ["num_retries", "'max_retries'"]),
        ({"zzz": 1}, ["zzz", "the known ones are"]),
        ({"conf": {"temprature": 0.5}}, ["temprature", "'temperature'"]),
        ({"conf": "x"}, ["conf", "'x'", "mapping"]),
        ({"temperature": 2.01}, ["temperature", "2.01", "from 0.0 to 2.0"]),
        ({"temperature": -0.1}, ["temperature", "-0.1"]),
        ({"temperature": math.nan}, ["temperature", "nan"]),
        ({"temperature": math.inf}, ["temperature", "inf"]),
        ({"temperature": True}, ["temperature", "True"]),
        ({"temperature": "warm"}, ["temperature", "'warm'"]),
        ({"top_p": 1.1}, ["top_p", "1.1"]),
        ({"frequency_penalty": 3}, ["frequency_penalty", "3"]),
        ({"presence_penalty": math.nan}, ["presence_penalty", "nan"]),
        ({"timeout": -1}, ["timeout", "-1", "seconds"]),
        ({"timeout": 0}, ["timeout", "0"]),
        ({"timeout": math.nan}, ["timeout", "nan"]),
        ({"timeout": 1801}, ["timeout", "1801", "LLM_QUEUE_MAX_TIMEOUT"]),
        ({"max_retries": -1}, ["max_retries", "-1"]),
        ({"max_retries": 1.5}, ["max_retries", "1.5"]),
        ({"max_tokens": -1}, ["max_tokens", "-1"]),
        ({"max_tokens": 0}, ["max_tokens", "0"]),
        ({"fallback_models": "gpt-4o"}, ["fallback_models", "'gpt-4o'", '["gpt-4o-mini"]']),
        ({"fallback_models": ["gpt-4o", ""]}, ["fallback_models[1]", "''"]),
        ({"extra_headers": {"X-Count": 1}}, ["extra_headers['X-Count']", "valid string"]),
        ({"extra_headers": {"X Y": "1"}}, ["extra_headers", "'X Y'"]),
        ({"extra_headers": {"Expect": "100-continue"}}, ["extra_headers", "'Expect'", "leave it out"]),
        ({"model": "a \udcaf b"}, ["model", "LiteLLM name"]),
        ({"fallback_models": ["a \udcaf b"]}, ["fallback_models[0]", "lone surrogate"]),
        ({"organization_id": "a \udcaf b"}, ["organization_id", "as text"]),
        ({"api_version": "a \udcaf b"}, ["api_version", "as text"]),
        ({"base_url": "https://a \udcaf b/"}, ["base_url", "lone surrogate"]),
        ({"api_key": "a \udcaf b"}, ["api_key", "lone surrogate"]),
        ({"extra_headers": {"X": "a\r\nHost: b"}}, ["extra_headers", "'X'", "control character"]),
        ({"base_url": "llm.example"}, ["base_url", "http(s)"]),
        ({"base_url": "https://u:p@llm.example"}, ["base_url", "api_key"]),
        ({"redis_url": "http://host"}, ["redis_url", "redis://"]),
        ({"redis_url": "redis://host:port"}, ["redis_url", "does not parse"]),
        ({"queue": "a b"}, ["queue", "'a b'"]),
        ({"priority": 1}, ["priority", "1", "0, 3, 6 and 9"]),
        ({"on_worker_loss": "ignore"}, ["on_worker_loss", "'ignore'", "retry"]),
        ({"stream_ttl_s": -1}, ["stream_ttl_s", "-1"]),
        ({"stream_ttl_s": 1e300}, ["stream_ttl_s", "1e+300"]),
        ({"max_wait": 1e300}, ["max_wait", "1e+300"]),
        ({"first_token_timeout": 1e300}, ["first_token_timeout", "1e+300"]),
        ({"service_tier": "turbo"}, ["service_tier", "'turbo'", "flex"]),
        ({"messages": [{"role": "system"}]}, ["messages[0]"]),
        ({"toolset": {"type": "nothing"}}, ["toolset"]),
        ({"toolset": toolset_of("no.such.Class")}, ["toolset.class_path", "no.such.Class"]),
        ({"toolset": toolset_of("json.JSONDecoder")}, ["json.JSONDecoder", "Toolset"]),
    ],
)  # fmt: skip
def test_a_wrong_property_is_refused_at_once(given: dict[str, Any], named: list[str]) -> None:
    message = refusal(**given)
    for part in named:
        assert part in message, message


def test_a_missing_model_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="model: missing"):
        QueueLLMResolver()


def test_all_that_is_wrong_is_said_at_once() -> None:
    message = refusal(temperature=9, max_tokens=-1)
    assert "temperature" in message
    assert "max_tokens" in message


def test_a_literal_key_without_sealing_is_refused_and_not_repeated() -> None:
    message = refusal(api_key=SECRET)
    assert "llm-queue make-key" in message
    assert "LLM_QUEUE_SEALING_KEYS" in message
    assert SECRET not in message


def test_a_credential_among_the_headers_is_one_too() -> None:
    message = refusal(extra_headers={"Authorization": f"Bearer {SECRET}"})
    assert "'Authorization'" in message
    assert SECRET not in message


@pytest.mark.parametrize(
    "given",
    [
        {"api_key": [SECRET]},
        {"extra_headers": {"X-Key": [SECRET]}},
        {"extra_headers": SECRET},
        {"redis_url": f"redis://:{SECRET}@host:port"},
        {"base_url": f"ftp://{SECRET}@host"},
        {"apikey": SECRET},
    ],
)
def test_no_refusal_repeats_a_secret(given: dict[str, Any]) -> None:
    assert SECRET not in refusal(**given)


@pytest.mark.usefixtures("sealing")
def test_no_secret_shows_in_what_a_resolver_says_of_itself() -> None:
    resolver = QueueLLMResolver(
        "gpt-4", api_key=SECRET, extra_headers={"Authorization": SECRET}, redis_url=f"redis://:{SECRET}@h/0"
    )
    llm = resolver.resolve("o", "g", "a")
    assert SECRET not in f"{resolver!r}{resolver.properties!r}{llm!r}{llm.get_config()}"
    assert llm.get_config()["model"] == "gpt-4"


def test_a_wrong_setting_of_the_environment_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", "nonsense")
    assert "LLM_QUEUE_REDIS_URL" in refusal()


def test_the_default_timeout_bows_to_the_longest_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_MAX_TIMEOUT", "60")
    properties = QueueLLMResolver("gpt-4").properties
    assert properties.timeout_s(properties.settings()) == 60


def test_the_queue_and_redis_of_the_properties_go_before_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", "redis://environment:6379/0")
    settings = QueueLLMResolver("gpt-4", queue="batch", redis_url="redis://own:6379/1").properties.settings()
    assert (settings.queue, settings.redis_url) == ("batch", "redis://own:6379/1")


def test_tools_come_from_a_toolset_or_a_list_of_specs() -> None:
    module = Weather.__module__
    spec = {"name": "weather", "description": "The weather.", "parameter_class": f"{module}.Weather"}
    for toolset in (
        toolset_of(f"{module}.WeatherTools"),
        {"type": "toolspec_list", "tools": [spec]},
    ):
        assert QueueLLMResolver("gpt-4", {"toolset": toolset}).properties.toolset is not None


@pytest.mark.usefixtures("sealing")
def test_a_resolver_can_be_pickled() -> None:
    resolver = QueueLLMResolver("gpt-4", api_key=SECRET, temperature=0.1)
    resolver.get_or_resolve("o", "g", "a")
    copied = pickle.loads(pickle.dumps(resolver))
    assert copied.properties == resolver.properties
    assert copied.get_or_resolve("o", "g", "a").model == "gpt-4"


def test_an_agents_llm_is_made_once() -> None:
    resolver = QueueLLMResolver("gpt-4")
    assert resolver.get_or_resolve("o", "g", "a") is resolver.get_or_resolve("o", "g", "a")
    assert resolver.get_or_resolve("o", "g", "a") is not resolver.get_or_resolve("o", "g", "b")


@pytest.mark.parametrize(
    ("given", "priority"), [("interactive", 0), ("normal", 3), ("low", 6), ("batch", 9), (9, 9), (0, 0)]
)
def test_a_priority_has_a_name_and_a_number(given: Any, priority: int) -> None:
    assert Properties.load({"model": "m", "priority": given}).priority == priority


@pytest.mark.parametrize("given", ["urgent", 1, True, "0"])
def test_a_priority_that_is_none_is_refused_with_their_names(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'priority: .*"interactive", "normal", "low" or "batch"'):
        Properties.load({"model": "m", "priority": given})
