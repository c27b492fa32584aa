"""A Redis URL that cannot be used is an error that names what is wrong with it, and shows no password."""

from pathlib import Path

import pytest

from rustic_ai.llm_queue.resolver import QueueLLMResolver
from rustic_ai.llm_queue.resolver.configuration_error import ConfigurationError
from rustic_ai.llm_queue.tasks.connection.redis_url import masked_url
from rustic_ai.llm_queue.tasks.settings import QueueSettings, SettingsError

WRONG = [
    ("http://host:1/0", "redis, rediss, sentinel"),
    ("redis://:secret@/0", "names no host"),
    ("redis://:secret@host/zero", "number of a database"),
    ("redis://:se[cret@host:6379", "does not parse"),
    ("redis://user:123/secret@host:6379/0", "%2F"),
    ("redis://user:123?x=secret@host:6379/0", "%3F"),
    ("redis://user:123#secret@host:6379/0", "%23"),
    ("redis://user:123/secret", "%2F"),
    ("redis://:\N{ACCOUNT OF}secret@host", "does not parse"),
    ("secret://host", "redis, rediss, sentinel"),
    ("redis://host/0?protocol=3", "protocol"),
    ("redis://host/0?socket_timeout=5", "socket_timeout"),
    ("redis://host/0?password=secret", "password"),
    ("redis://host/0?secret=1", "an option that is not known"),
    ("redis://host/0?ssl_ca_certs=/ca.pem", "no options"),
    ("rediss://host/0?ssl_cert_reqs=CERT_REQUIRED", "required, optional, none"),
    ("rediss://host/0?ssl_check_hostname=maybe", "true, false"),
    ("rediss://host/0?ssl_ca_certs=", "without a value"),
    ("rediss://host/0?ssl_ca_certs=/a&ssl_ca_certs=/b", "twice"),
    ("rediss://host/0?protocol=3", "it takes ssl_ca_certs"),
    ("sentinel://:secret@a:1/0", "master=name"),
    ("sentinel:///0?master=m", "names no host"),
    ("sentinel://a/0?master=m", "host:port"),
    ("sentinel://:secret@a:x/0?master=m", "host:port"),
    ("sentinel://:se/cret@a:1/0?master=m", "%2F"),
    ("sentinel://a:1/zero?master=m", "number of a database"),
    ("sentinel://a:1/0?master=m&ssl=true&sentinel_password=secret", "the option ssl"),
    ("sentinel://a:1/0?master=m&protocol=3", "the option protocol"),
    ("sentinel://a:1/0?master=m&sentinel_password=", "sentinel_password without a value"),
    ("sentinel://a:1/0?master=m&tls=yes", "tls"),
    ("sentinel://a:1/0?master=m&ssl_ca_certs=/ca.pem", "add tls=1"),
    ("redis+cluster://:secret@", "names no host"),
    ("redis+cluster://:secret@a;b:2", "host:port"),
    ("redis+cluster://:se/cret@a:1", "%2F"),
    ("redis+cluster://a:1;b:2/1", "in cluster mode there is only 0"),
    ("redis+cluster://a:1/0?ssl_ca_certs=/ca.pem", "no options"),
    ("rediss+cluster://a:1/0?protocol=3", "it takes ssl_ca_certs"),
    ("rediss+cluster://a:1/0?ssl_check_hostname=maybe", "true, false"),
]


@pytest.mark.parametrize(("url", "says"), WRONG)
def test_a_url_that_cannot_be_used(url: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", url)
    with pytest.raises(SettingsError) as caught:
        QueueSettings()
    assert says in str(caught.value)
    assert "LLM_QUEUE_REDIS_URL" in str(caught.value)
    assert "secret" not in str(caught.value).replace("se[cret", "secret")


@pytest.mark.parametrize(("url", "says"), WRONG)
def test_the_same_url_as_a_property(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        QueueLLMResolver(model="m", redis_url=url)
    assert says in str(caught.value)
    assert "secret" not in str(caught.value).replace("se[cret", "secret")


@pytest.mark.parametrize(
    "url",
    [
        "redis://host",
        "redis://user:p%2Fa%40ss@host:6379/15",
        "rediss://:pw@[::1]:6379/0?ssl_cert_reqs=none&ssl_check_hostname=false&ssl_ca_certs=/ca.pem",
        "sentinel://:pw@a:1;b:2/0?master=m&tls=1&ssl_ca_certs=/ca.pem&sentinel_password=x",
        "redis+cluster://user:p%2Fw@a:1;[::1]:2",
        "rediss+cluster://:pw@a:1;b:2/0?ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
    ],
)
def test_a_url_that_can_be_used(url: str) -> None:
    assert QueueSettings(redis_url=url, key_tag="llmq").redis_url == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user:secret@host:6379/0", "redis://host:6379/0"),
        ("redis://:sec/ret?x#y@z@host/0", "redis://host/0"),
        ("rediss://h/0?ssl_ca_certs=/ca&password=secret", "rediss://h/0?ssl_ca_certs=/ca&password=**"),
        (
            "sentinel://:secret@a:1;b:2/0?master=m&sentinel_password=secret&tls=1",
            "sentinel://a:1;b:2/0?master=m&sentinel_password=**&tls=1",
        ),
        ("x-sentinel://:secret@a:1/0;x-sentinel://:secret@b:2/0", "x-sentinel://a:1/0;x-sentinel://b:2/0"),
        ("some.module:Reader+redis://:secret@h/0", "some.module:Reader+redis://h/0"),
        ("redis+cluster://u:secret@a:1;b:2/0", "redis+cluster://a:1;b:2/0"),
        ("secret", "**"),
    ],
)  # fmt: skip
def test_a_url_as_people_see_it(url: str, shown: str) -> None:
    assert masked_url(url) == shown


def test_a_url_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "redis_url"
    path.write_text("redis://worker:pw@host:6379/0\n")
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL_FILE", str(path))
    assert QueueSettings().redis_url == "redis://worker:pw@host:6379/0"
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", "")
    assert QueueSettings().redis_url == "redis://worker:pw@host:6379/0"
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", "redis://other")
    assert QueueSettings().redis_url == "redis://other", "the variable itself wins"


@pytest.mark.parametrize("name", ["REDIS_URL_FILE", "SEALING_KEYS_FILE"])
@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), (b"  \n", "is empty"), (b"secret\xff", "UTF-8"), (b"x" * 65_000, "larger")],
    ids=["missing", "empty", "binary", "large"],
)
def test_a_file_of_a_secret_that_cannot_be_used(
    name: str, content: bytes | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret_file"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv(f"LLM_QUEUE_{name}", str(path))
    with pytest.raises(SettingsError, match=f"LLM_QUEUE_{name}: .*secret_file.*{says}") as caught:
        QueueSettings()
    assert "secret\\xff" not in str(caught.value)


def test_a_url_in_a_file_that_is_wrong_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "redis_url"
    path.write_text("redis://user:123/secret@host:6379/0\n")
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL_FILE", str(path))
    with pytest.raises(SettingsError, match="LLM_QUEUE_REDIS_URL: ") as caught:
        QueueSettings()
    assert "secret" not in str(caught.value)
