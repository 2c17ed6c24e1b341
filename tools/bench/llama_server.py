"""llama.cpp's server with four places, reading pages over HTTP."""
import base64
import json
import os
import socket
import subprocess
import threading
import time
import urllib.request

import sql_pages


class LlamaServer:
    def __init__(self, folder, weights, threads, log):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        gguf = f"{folder}/gguf/"
        self.process = subprocess.Popen(
            [folder + "/bin/llama-server", "-m", f"{gguf}{weights}.gguf", "--mmproj", gguf + "mmproj-bf16.gguf",
             "-np", "4", "-c", "4096", "-t", str(threads), "-tb", str(threads), "--host", "127.0.0.1",
             "--port", str(self.port), "--no-webui", "--no-warmup"], stdout=log, stderr=log,
            env=dict(os.environ, OMP_WAIT_POLICY="passive"))

    def __enter__(self):
        end = time.monotonic() + 300
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=10) as r:
                    if r.status == 200:
                        return self
            except OSError:
                time.sleep(0.5)
        self.__exit__()
        raise RuntimeError("llama-server did not start; see peers.log")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def page(self, path, tokens, out):
        with open(path, "rb") as f:
            image = base64.b64encode(f.read()).decode()
        body = {"max_tokens": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False,
                "messages": [{"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64," + image}},
                    {"type": "text", "text": "\nFree OCR."}]}]}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/chat/completions",
                                         json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=900) as r:
                out.append(json.load(r)["usage"])
        except (OSError, ValueError, KeyError) as e:
            out.append({"error": str(e)})

    def pages(self, paths, tokens):
        """All of them at once."""
        out = []
        threads = [threading.Thread(target=self.page, args=(p, tokens, out)) for p in paths]
        start, cpu = time.perf_counter(), sql_pages.family(self.process.pid)[0]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        wall = time.perf_counter() - start
        wrong = [u["error"] for u in out if "error" in u]
        if wrong:
            raise RuntimeError("llama-server: " + wrong[0])
        return {"wall_s": wall, "cpu_s": sql_pages.family(self.process.pid)[0] - cpu,
                "n": sum(u["completion_tokens"] for u in out), "prompt": sum(u["prompt_tokens"] for u in out)}
