"""Headless Chromium, steered over its own debugging protocol."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any, Self

import httpx
from websockets.sync.client import ClientConnection, connect

from support.processes.process import ChildProcess
from support.processes.scratch import scratch_dir
from support.processes.wait import wait_until

_NAMES = ("chromium", "chromium-browser", "google-chrome")


class Browser(ChildProcess):
    """One page of one headless Chromium.

    Args:
        width: of the window, in CSS pixels; so is `height`.

    Raises:
        FileNotFoundError: there is no Chromium on the path.
    """

    def __init__(self, *, width: int = 1440, height: int = 900) -> None:
        program = next((found for name in _NAMES if (found := shutil.which(name))), None)
        if program is None:
            raise FileNotFoundError("no Chromium here: install the package `chromium`")
        self._profile = scratch_dir("chromium")
        command = [
            program,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--remote-debugging-port=0",
            f"--user-data-dir={self._profile}",
            f"--window-size={width},{height}",
            "about:blank",
        ]
        super().__init__(command, log_path=self._profile / "chromium.log")
        self._size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._socket: ClientConnection | None = None
        self._calls = 0

    def __enter__(self) -> Self:
        self.start()
        port_file = self._profile / "DevToolsActivePort"
        wait_until(lambda: port_file.exists() and "\n" in port_file.read_text(), 30, "Chromium")
        port = port_file.read_text().split()[0]
        pages = httpx.get(f"http://127.0.0.1:{port}/json", timeout=10).json()
        target = next(page for page in pages if page["type"] == "page")
        self._socket = connect(target["webSocketDebuggerUrl"], max_size=None)
        self._call("Page.enable")
        self._call("Emulation.setDeviceMetricsOverride", **self._size)
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()
        super().__exit__()

    def sign_in(self, user: str, password: str) -> None:
        """Send these with every request, as after a sign-in."""
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._call("Network.enable")
        self._call("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {credentials}"})

    def open(self, url: str) -> None:
        """Go to `url` and wait until the page is loaded."""
        self._call("Page.navigate", url=url)
        self.wait_for(f"location.href.startsWith({json.dumps(url)}) && document.readyState === 'complete'")

    def wait_for(self, script: str, timeout_s: float = 15.0) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        return wait_until(lambda: self.evaluate(script), timeout_s, script)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        reply = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in reply, reply
        return reply["result"].get("value")

    def screenshot(self, path: Path, *, height: int | None = None) -> None:
        """Save the upper part of what the window shows, `height` CSS pixels of it, as PNG."""
        clip = {"x": 0, "y": 0, "width": self._size["width"], "height": height or self._size["height"]}
        picture = self._call(
            "Page.captureScreenshot", format="png", clip={**clip, "scale": 1}, captureBeyondViewport=True
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        assert self._socket is not None
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=30))
            if message.get("id") == self._calls:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
