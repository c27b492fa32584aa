"""The provider's simulator in a container of the project's image, which has all that it imports."""

from pathlib import Path
from typing import Any

from support.providers.provider_client import ProviderClient

#: The port in its container.
PORT = 8000
_TESTS = Path(__file__).parents[2]
_FOLDER = "/tests"
#: Nothing but ``import support`` needs the folder: the tests' caches are no business of a container.
MOUNT = (str(_TESTS), _FOLDER)
ENVIRONMENT = {"PYTHONPATH": _FOLDER, "PYTHONDONTWRITEBYTECODE": "1"}
COMMAND = ["python", "-m", "support.providers.openai_stub", "--host", "0.0.0.0", "--port", str(PORT)]


def simulator_service(image: str, published_port: int) -> dict[str, Any]:
    """The simulator as a service of a Compose file, on the network `queue`, under the name `provider`."""
    source, target = MOUNT
    return {
        "image": image,
        "entrypoint": COMMAND,
        "environment": ENVIRONMENT,
        "volumes": [f"{source}:{target}:ro"],
        "networks": ["queue"],
        "ports": [f"127.0.0.1:{published_port}:{PORT}"],
        "healthcheck": {
            "test": [
                "CMD",
                "python",
                "-c",
                f"import socket; socket.create_connection(('127.0.0.1', {PORT}))",
            ],
            "interval": "2s",
        },
    }


def client_of(published_port: int, host: str) -> ProviderClient:
    """The control interface, at the published port; workers find the simulator as `host`."""
    return ProviderClient(f"http://127.0.0.1:{published_port}", workers_url=f"http://{host}:{PORT}")
