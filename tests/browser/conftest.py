"""A headless browser of the system's, and the gathered site served on this machine; `make test-browser` runs this."""

import functools
import http.server
import os
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("FAIRKD_SITE") or ROOT / "reports" / "site")
QUIET = ["quic", "gpu", "background-networking", "component-update", "sync"]
ARGUMENTS = ["--no-sandbox", "--no-first-run", *(f"--disable-{what}" for what in QUIET)]


@pytest.fixture(scope="session")
def browser():
    executable = os.environ.get("CHROMIUM")
    if not executable:
        pytest.exit("CHROMIUM names no browser: make test-browser says what to install", 1)
    from playwright.sync_api import sync_playwright  # an extra; `make test` passes by here without it

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        """Say nothing."""


def serve(folder):
    """A server of a folder and its address."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(scope="session")
def site():
    """The address of the gathered site."""
    server, address = serve(SITE)
    yield address
    server.shutdown()
