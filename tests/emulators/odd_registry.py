"""A right registry in memory, whose answers a test may change on their way to the client.

Source: https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md. It is written from the specification,
and not from the client that it tests. Its state is what tests compare with.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs, quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = 2
"""Names in one page of a list, however many the client wants."""
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
USER, PASSWORD = "robot", "right-password"


def digest_of(content: bytes) -> str:
    return f"sha256:{sha256(content).hexdigest()}"


@dataclass
class Asked:
    """A request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        """Method and what it is about, e.g. `PUT blob`."""
        path = urlsplit(self.path).path
        for pattern, about in (
            (r"/token", "token"),
            (r"/v2/", "base"),
            (r"/v2/_catalog", "list"),
            (r"/v2/.+/tags/list", "list"),
            (r"/v2/.+/referrers/.+", "referrers"),
            (r"/v2/.+/blobs/uploads/.*", "upload"),
            (r"/v2/.+/blobs/.+", "blob"),
            (r"/v2/.+/manifests/.+", "manifest"),
        ):
            if re.fullmatch(pattern, path):
                return f"{self.method} {about}"
        return f"{self.method} other"


@dataclass
class Told:
    """An answer."""

    status: int | None = 200
    """None hangs up."""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    """Bytes of the body after which the connection ends; None for none."""


Change = Callable[[Asked, Callable[[], Told]], Told]


@dataclass
class State:
    """What a registry holds."""

    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    """Media type and content, by repository and digest."""
    tags: dict[tuple[str, str], str] = field(default_factory=dict)
    blobs: dict[tuple[str, str], bytes] = field(default_factory=dict)
    uploads: set[str] = field(default_factory=set)

    def push_manifest(self, repository: str, media_type: str, document: Any, *tags: str) -> str:
        body = json.dumps(document).encode()
        digest = digest_of(body)
        self.manifests[repository, digest] = (media_type, body)
        self.tags |= {(repository, tag): digest for tag in tags}
        return digest

    def push_blob(self, repository: str, content: bytes) -> dict[str, Any]:
        digest = digest_of(content)
        self.blobs[repository, digest] = content
        return {"mediaType": "application/octet-stream", "digest": digest, "size": len(content)}

    def attached(self, repository: str, digest: str) -> list[dict[str, Any]]:
        """The descriptors of the manifests whose subject is another one."""
        manifests = [(key[1], *found) for key, found in self.manifests.items() if key[0] == repository]
        return [
            {"mediaType": media_type, "digest": found, "size": len(body)}
            for found, media_type, body in manifests
            if json.loads(body).get("subject", {}).get("digest") == digest
        ]

    def repositories(self) -> list[str]:
        return sorted({repository for repository, _ in (*self.manifests, *self.blobs)})

    def tags_of(self, repository: str) -> list[str]:
        return sorted(tag for found, tag in self.tags if found == repository)


class OddRegistry:
    """A registry on a free port, and a second host that belongs to somebody else.

    Args:
        guarded: Whether it wants a token, which its token server gives for a login.

    Attributes:
        state: What it holds.
        change: Is given each request, and what makes the right answer; what it returns is sent.
        seen: The kinds of all requests.
        elsewhere: What the second host was asked.
    """

    def __init__(self, *, guarded: bool = False) -> None:
        self.state = State()
        self.guarded = guarded
        self.change: Change = lambda _, answer: answer()
        self.seen: list[str] = []
        self.elsewhere: list[Asked] = []
        self._ours = _Server(self._answer)
        self._other = _Server(self._answer_elsewhere)
        self.host, self.other_host = (f"127.0.0.1:{server.server_port}" for server in (self._ours, self._other))

    def __enter__(self) -> Self:
        for server in (self._ours, self._other):
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._ours, self._other):
            server.shutdown()
            server.server_close()

    def begin(self, state: State, change: Change) -> None:
        """Begin again with other content."""
        self.state, self.change, self.seen, self.elsewhere = state, change, [], []

    def _answer(self, asked: Asked) -> Told:
        self.seen.append(asked.kind)
        return self.change(asked, lambda: self._right_answer(asked))

    def _answer_elsewhere(self, asked: Asked) -> Told:
        self.elsewhere.append(asked)
        return Told(401, {"WWW-Authenticate": f'Basic realm="{self.other_host}"'}, b"who are you?")

    def _right_answer(self, asked: Asked) -> Told:
        path, query = urlsplit(asked.path).path, parse_qs(urlsplit(asked.path).query)
        if path == "/token":
            return self._token(asked)
        if self.guarded and asked.headers.get("Authorization") != "Bearer good":
            challenge = f'Bearer realm="http://{self.host}/token",service="{self.host}",scope="repository:a:pull,push"'
            return Told(401, {"WWW-Authenticate": challenge}, _error("UNAUTHORIZED"))
        if path == "/v2/":
            return Told(200, {"Content-Type": "application/json"}, b"{}")
        if path == "/v2/_catalog":
            return self._page(path, "repositories", self.state.repositories(), query)
        if found := re.fullmatch(r"/v2/(.+)/tags/list", path):
            if found[1] not in self.state.repositories():
                return Told(404, {}, _error("NAME_UNKNOWN"))
            return self._page(path, "tags", self.state.tags_of(found[1]), query)
        if found := re.fullmatch(r"/v2/(.+)/referrers/(sha256:[0-9a-f]{64})", path):
            index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": self.state.attached(found[1], found[2])}
            return Told(200, {"Content-Type": OCI_INDEX}, json.dumps(index).encode())
        if found := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            return self._manifest(asked, found[1], found[2])
        if found := re.fullmatch(r"/v2/(.+)/blobs/uploads/(.*)", path):
            return self._upload(asked, found[1], found[2], query)
        if found := re.fullmatch(r"/v2/(.+)/blobs/(.+)", path):
            return self._blob(found[1], found[2])
        return Told(404, {}, _error("NAME_UNKNOWN"))

    def _token(self, asked: Asked) -> Told:
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if asked.headers.get("Authorization") != f"Basic {login}":
            return Told(401, {}, _error("UNAUTHORIZED"))
        return Told(200, {"Content-Type": "application/json"}, b'{"token": "good", "expires_in": 300}')

    def _page(self, path: str, key: str, names: list[str], query: Mapping[str, list[str]]) -> Told:
        left = [name for name in names if name > query.get("last", [""])[0]]
        page, headers = left[:PAGE], {"Content-Type": "application/json"}
        if len(left) > PAGE:
            headers["Link"] = f'<{path}?n={PAGE}&last={quote(page[-1])}>; rel="next"'
        return Told(200, headers, json.dumps({key: page}).encode())

    def _manifest(self, asked: Asked, repository: str, version: str) -> Told:
        state = self.state
        digest = version if ":" in version else state.tags.get((repository, version), "")
        if asked.method == "PUT":
            digest = digest_of(asked.body)
            if ":" in version and version != digest:
                return Told(400, {}, _error("DIGEST_INVALID"))
            state.manifests[repository, digest] = (asked.headers.get("Content-Type", ""), asked.body)
            if ":" not in version:
                state.tags[repository, version] = digest
            return Told(201, {"Docker-Content-Digest": digest, "Location": f"/v2/{repository}/manifests/{digest}"})
        if (repository, digest) not in state.manifests:
            return Told(404, {}, _error("MANIFEST_UNKNOWN"))
        if asked.method == "DELETE":
            if ":" in version:
                del state.manifests[repository, digest]
                state.tags = {
                    tag: found for tag, found in state.tags.items() if (tag[0], found) != (repository, digest)
                }
            else:
                del state.tags[repository, version]
            return Told(202)
        media_type, body = state.manifests[repository, digest]
        return Told(200, {"Content-Type": media_type, "Docker-Content-Digest": digest}, body)

    def _upload(self, asked: Asked, repository: str, upload: str, query: Mapping[str, list[str]]) -> Told:
        if asked.method == "POST":
            upload = uuid.uuid4().hex
            self.state.uploads.add(upload)
            where = f"/v2/{repository}/blobs/uploads/{upload}?_state=x"
            return Told(202, {"Location": where, "Range": "0-0", "Docker-Upload-UUID": upload})
        digest = query.get("digest", [""])[0]
        if asked.method != "PUT" or upload not in self.state.uploads:
            return Told(404, {}, _error("BLOB_UPLOAD_UNKNOWN"))
        if digest != digest_of(asked.body):
            return Told(400, {}, _error("DIGEST_INVALID"))
        self.state.uploads.discard(upload)
        self.state.blobs[repository, digest] = asked.body
        return Told(201, {"Location": f"/v2/{repository}/blobs/{digest}", "Docker-Content-Digest": digest})

    def _blob(self, repository: str, digest: str) -> Told:
        content = self.state.blobs.get((repository, digest))
        if content is None:
            return Told(404, {}, _error("BLOB_UNKNOWN"))
        return Told(200, {"Docker-Content-Digest": digest, "Content-Type": "application/octet-stream"}, content)


def _error(code: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": code.lower()}]}).encode()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Callable[[Asked], Told]) -> None:
        self.answer = answer
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are what tests want."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 5

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def answer_request(self) -> None:
        asked = Asked(self.command, self.path, self.headers, self._body())
        with self.server.lock:
            told = self.server.answer(asked)
        self.close_connection = True
        if told.status is None:
            return
        head = [f"HTTP/1.1 {told.status} Odd"]
        headers = {"Content-Length": str(len(told.body)), "Connection": "close"} | told.headers
        head += [f"{name}: {value}" for name, value in headers.items()]
        body = b"" if self.command == "HEAD" or told.status in (204, 304) else told.body[: told.cut]
        self.wfile.write("\r\n".join([*head, "", ""]).encode("latin-1", "replace") + body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer_request  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        return content
