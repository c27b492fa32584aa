"""A Redis URL that cannot be used is an error that names what is wrong with it, and shows no password."""

import pytest

from rustic_ai.llm_queue.tasks.settings import QueueSettings, SettingsError


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://host:1/0", "'http'"),
        ("redis://:secret@/0", "names no host"),
        ("redis://:secret@host/zero", "'zero'"),
        ("redis://:se[cret@host:6379", "does not parse"),
        ("sentinel://:secret@a:1/0", "master=name"),
        ("sentinel:///0?master=m", "names no host"),
        ("sentinel://a/0?master=m", "host:port"),
        ("sentinel://a:1/zero?master=m", "'zero'"),
        ("sentinel://a:1/0?master=m&ssl=true&sentinel_password=secret", "'ssl' is not one of"),
        ("sentinel://a:1/0?master=m&tls=yes", "'tls'"),
        ("sentinel://a:1/0?master=m&ssl_ca_certs=/ca.pem", "add tls=1"),
    ],
)
def test_a_url_that_cannot_be_used(url: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", url)
    with pytest.raises(SettingsError) as caught:
        QueueSettings()
    assert says in str(caught.value)
    assert "LLM_QUEUE_REDIS_URL" in str(caught.value)
    assert "secret" not in str(caught.value)
