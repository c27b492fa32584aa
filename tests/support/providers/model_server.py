"""The small real model, for tests: the demo's own `LocalModelServer`, with its log kept."""

from local_model import LocalModelServer
from support.processes.scratch import scratch_dir

__all__ = ["LocalModelServer", "model_server"]


def model_server() -> LocalModelServer:
    """A server, not yet started; use it in `with`.

    Its log is ``model.log`` in a temporary directory of its own. LiteLLM reaches it with
    ``model=f"openai/{server.model}"``, ``api_base=server.base_url`` and any key.
    """
    return LocalModelServer(log_path=scratch_dir("model") / "model.log")
