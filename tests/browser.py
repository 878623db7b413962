"""A page in headless Chromium, driven through the DevTools protocol."""

import base64
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
FLAGS += ["--remote-debugging-port=0", "--disable-dev-shm-usage"]
PATIENCE = 60


def until(condition, what):
    """Wait for a condition, and return what it is."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {PATIENCE} seconds"
        time.sleep(0.05)
    return found


@contextmanager
def opened(url, folder):
    """The page of an address; Chromium keeps what it writes in a folder."""
    from websockets.sync.client import connect

    profile = Path(folder) / "chromium"
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        port_file = profile / "DevToolsActivePort"
        text = until(lambda: port_file.exists() and port_file.read_text(), "Chromium's port")
        port, path = text.split("\n")[:2]
        address = f"ws://127.0.0.1:{port}{path}"
        with connect(address, max_size=None, proxy=None) as connection:
            yield Tab(connection, url)
            connection.send(json.dumps({"id": 0, "method": "Browser.close"}))
        process.wait(PATIENCE)
    finally:
        process.kill()
        process.wait()


class Tab:
    """A tab, its clicks, and all that it asked of the network."""

    def __init__(self, connection, url):
        self._connection, self._last, self._session = connection, 0, None
        self.requests, self.messages = [], []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        found = self.ask("Target.attachToTarget", targetId=target, flatten=True)
        self._session = found["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.ask(f"{domain}.enable")
        self.resize(1360, 1000)
        self.ask("Page.navigate", url=url)

    def ask(self, method, **parameters):
        """Call a method of the protocol and return its result."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._connection.send(json.dumps(message))
        while True:
            answer = json.loads(self._connection.recv(timeout=PATIENCE))
            if answer.get("method") == "Network.requestWillBeSent":
                self.requests.append(answer["params"]["request"]["url"])
            if answer.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                self.messages.append(answer["params"])
            if answer.get("id") == self._last:
                assert "error" not in answer, answer
                return answer["result"]

    def value(self, script):
        """The value of a script's expression."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script):
        """Wait until an expression is true."""
        return until(lambda: self.value(script), script)

    def click(self, element):
        """Click in the middle of the element of an expression."""
        self.wait(f"Boolean({element})")
        box = self.value(
            f"(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}}); "
            "const b = e.getBoundingClientRect(); "
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.ask("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], **button)

    def type(self, element, text):
        """Click into a field, and replace what it holds."""
        self.click(element)
        self.value(f"({element}).select()")
        self.ask("Input.insertText", text=text)

    def resize(self, width, height):
        """Set the size of the window."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)

    def picture(self, path):
        """Write what is seen as PNG."""
        data = self.ask("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(data))
