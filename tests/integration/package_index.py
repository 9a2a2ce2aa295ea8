"""A package index on 127.0.0.1 with wheels made on the spot: what pip is shown, without a network."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PARTS = 6


def wheel(name: str, version: str, files: Mapping[str, bytes | str]) -> bytes:
    """A pure wheel for any Python. Files that begin with #! may be executed once they are installed."""
    info = f"{name}-{version}.dist-info"
    tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    about = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    contents = {**files, f"{info}/METADATA": about, f"{info}/WHEEL": tag}
    record, packed = "", io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, content in contents.items():
            data = content.encode() if isinstance(content, str) else content
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(data)}\n"
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (0o100755 if data.startswith(b"#!") else 0o100644) << 16
            archive.writestr(entry, data)
        archive.writestr(f"{info}/RECORD", record + f"{info}/RECORD,,\n")
    return packed.getvalue()


class PackageIndex:
    """Serves until `close`. The wheels may be changed between two requests."""

    def __init__(self) -> None:
        self.wheels: dict[str, bytes] = {}  # file name to content
        self.wrong: set[str] = set()  # names of files whose digest is told wrong
        self.pause = 0.0  # seconds between two parts of a large wheel
        self.go_on = threading.Event()  # cleared: a large wheel stays half sent
        self.go_on.set()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _, folder, name, *_ = [*self.path.split("/"), ""]
                if folder == "files" and name in index.wheels:
                    return index._send(self, index.wheels[name])
                links = "".join(
                    f'<a href="/files/{file}#sha256={index._digest(file)}">{file}</a>\n'
                    for file in sorted(index.wheels)
                    if folder == "simple" and file.startswith(f"{name}-")
                )
                if links:
                    return index._send(
                        self, f"<!DOCTYPE html><html><body>\n{links}</body></html>".encode(), "text/html"
                    )
                self.send_error(404)

            def log_message(self, format: str, *arguments: object) -> None:
                """Nothing: what is asked for is pip's affair."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        # What makes pip look here and nowhere else, whatever the machine's own settings are.
        self.environment = {
            "PIP_INDEX_URL": f"http://127.0.0.1:{self._server.server_port}/simple/",
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_NO_CACHE_DIR": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def add(self, name: str, version: str, files: Mapping[str, bytes | str] | None = None) -> str:
        """The file's name."""
        file = f"{name}-{version}-py3-none-any.whl"
        self.wheels[file] = wheel(name, version, files or {f"{name}/__init__.py": ""})
        return file

    def close(self) -> None:
        """Nobody answers there any more."""
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _digest(self, file: str) -> str:
        return "0" * 64 if file in self.wrong else hashlib.sha256(self.wheels[file]).hexdigest()

    def _send(self, request: BaseHTTPRequestHandler, data: bytes, kind: str = "application/octet-stream") -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        size = -(-len(data) // PARTS) if len(data) > 100_000 else len(data)
        try:
            for start in range(0, len(data), size):
                request.wfile.write(data[start : start + size])
                request.wfile.flush()
                if size < len(data):
                    self.go_on.wait()
                    time.sleep(self.pause)
        except ConnectionError:
            pass  # the reader is gone: killed, as a test meant
