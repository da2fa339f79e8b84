"""A git host on the loopback that speaks https. Prints its port.

Arguments: the directory with the repositories, a PEM file with key and certificate, a directory by which a test controls it:
  token    the password that it asks for, read anew at each request; without it anybody is let in
  stall    while it is there an answer with a pack stops half-way, after `stalled` was written
  asked    is appended a line for each request: `open` or `shut`, and the path
"""

import base64
import http.server
import os
import select
import ssl
import subprocess
import sys

root, pem, control = sys.argv[1:4]
AT = os.path.join


class Host(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def is_let_in(self):
        try:
            with open(AT(control, "token"), "rb") as file:
                token = file.read().strip()
        except FileNotFoundError:
            return True
        given = self.headers.get("Authorization", "").removeprefix("Basic ")
        return base64.b64decode(given).partition(b":")[2] == token

    def answer(self):
        is_let_in = self.is_let_in()
        with open(AT(control, "asked"), "a") as file:
            file.write(f"{'open' if is_let_in else 'shut'} {self.path}\n")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
        self.close_connection = True
        if not is_let_in:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_PROJECT_ROOT": root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        told = subprocess.run(["git", "http-backend"], input=body, env=environment, stdout=subprocess.PIPE).stdout
        head, _, content = told.partition(b"\r\n\r\n")
        lines = [line.split(": ", 1) for line in head.decode().split("\r\n")]
        status = next((value for name, value in lines if name == "Status"), "200 OK")
        self.send_response(int(status.split()[0]))
        for name, value in lines:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if b"PACK" in content and os.path.exists(AT(control, "stall")):
            half = len(content) // 2
            self.wfile.write(content[:half])
            self.wfile.flush()
            open(AT(control, "stalled"), "w").close()
            while os.path.exists(AT(control, "stall")):
                if select.select([self.connection], [], [], 0.02)[0]:
                    return
            content = content[half:]
        self.wfile.write(content)

    do_GET = do_POST = answer


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients that are killed are what this is for."""


server = Server(("127.0.0.1", 0), Host)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(pem)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_address[1], flush=True)
server.serve_forever()
