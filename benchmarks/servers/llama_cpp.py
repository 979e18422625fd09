"""Start llama.cpp's own HTTP server from the wheel ``xllamacpp``; runs in the server's environment.

    python llama_cpp.py model.gguf PORT KEY [SLOTS THREADS TOKENS]

By default two slots of 2,048 tokens. One thread: with several, each waits actively for the others, which on busy
cores takes longer than the work. TOKENS is what all slots hold together. The key is asked for with every request.
"""

from __future__ import annotations

import sys
import time


def main() -> None:
    """Serve until killed."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.port, params.api_keys = sys.argv[1], int(sys.argv[2]), [sys.argv[3]]
    slots, threads, tokens = map(int, sys.argv[4:] or (2, 1, 4096))
    params.n_ctx, params.n_parallel, params.use_jinja = tokens, slots, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
