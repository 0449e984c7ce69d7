"""Serve a folder on a free local port until Ctrl-C:  python tools/serve.py FOLDER"""

import os
import signal
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def end_headers(self):
        self.send_header("Cache-Control", "no-store")  # a rebuilt page shows at once
        super().end_headers()


def serve(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    print(
        f"\n  The book is at  http://127.0.0.1:{server.server_port}/",
        flush=True,
    )
    print("  Ctrl-C ends it.\n", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print("\n  The book is closed.", flush=True)


def own_terminal_group(run):
    """Call `run` in a child that owns the terminal, so that Ctrl-C reaches it and not `make`.

    `make` reports an interrupted recipe as a failure. With the server alone in
    the foreground, Ctrl-C is the ordinary way to end it.
    """
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # lets a background process take the terminal
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())
        signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        run()
        sys.exit()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os.kill(child, signal.SIGINT))
    os.waitpid(child, 0)
    os.tcsetpgrp(0, os.getpgrp())


if __name__ == "__main__":
    folder = sys.argv[1]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.stdin.isatty() and hasattr(os, "fork"):  # Windows has none, and its `make` does not mind
        own_terminal_group(partial(serve, folder))
    else:
        serve(folder)
