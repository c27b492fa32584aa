"""The one wall to LiteLLM. Its environment stands before any module here can import it."""

from .litellm_api.environment import prepare_environment

prepare_environment()
