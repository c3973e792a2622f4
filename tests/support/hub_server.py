"""A model hub on this machine, as far as lists, downloads and uploads of small files go."""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(repos):
    """
    Serve repositories, `repos` by name and then by path of the file; what is uploaded is put there.

    Yields
    ------
    address : str
    asked : list of (str, str)
        Methods and paths of the requests so far.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, content=b"", status=200, **headers):
            content = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in ({"Content-Length": len(content)} | headers).items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_GET(self):
            path = self.path.partition("?")[0]
            asked.append((self.command, path))
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/(tree|revision)/([^/]+).*", path):
                files = repos.get(found[1])
                if files is None:
                    return self.answer({"error": "no such repository"}, 404, X_Error_Code="RepoNotFound")
                if found[2] == "tree":
                    return self.answer(
                        [
                            {"type": "file", "path": name, "size": len(of), "oid": hashlib.sha1(of).hexdigest()}
                            for name, of in files.items()
                        ]
                    )
                siblings = [{"rfilename": name} for name in files]
                return self.answer({"id": found[1], "modelId": found[1], "sha": _COMMIT, "siblings": siblings})
            if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                content = repos.get(found[1], {}).get(found[2])
                if content is None:
                    return self.answer(b"", 404, X_Error_Code="EntryNotFound")
                return self.answer(content, X_Repo_Commit=_COMMIT, ETag=f'"{hashlib.sha1(content).hexdigest()}"')
            return self.answer({"error": path}, 404)

        do_HEAD = do_GET

        def do_POST(self):
            path = self.path.partition("?")[0]
            asked.append((self.command, path))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if path == "/api/repos/create":
                said = json.loads(body)
                name = f"{said.get('organization') or 'me'}/{said['name']}"
                repos.setdefault(name, {})
                return self.answer({"url": f"{address}/{name}", "name": name})
            if path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            if re.fullmatch(r"/api/models/.+/preupload/.+", path):
                files = json.loads(body)["files"]
                return self.answer(
                    {"files": [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]}
                )
            if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/.+", path):
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        repos[found[1]][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                url = f"{address}/{found[1]}/commit/{_COMMIT}"
                return self.answer({"success": True, "commitUrl": url, "commitOid": _COMMIT})
            return self.answer({"error": path}, 404)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield address, asked
    finally:
        server.shutdown()
        server.server_close()
