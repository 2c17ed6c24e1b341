"""What is compared: figures, their goals, and the programs on both sides."""
import os
import subprocess
import sys

import sql_pages

PROMPT = 273   # image tokens of a base page
STEPS = 32
PAGES = 12     # for nano and Tesseract
TOKENS = 96    # of each of four pages

# ours, llama.cpp's, goals of prefill and decode
PRECISIONS = (("bf16", "bf16", 1.5, 1.0), ("int8", "q8_0", 1.5, 1.05), ("int4", "q4_k_m", 1.5, 1.5))
WEIGHT_BYTES = {"bf16": 2, "int8": 1.03125, "int4": 0.5625}
ACTIVE = 573e6          # parameters that a token touches, lm_head with them
KV_BYTES = 61440        # of a position
ENCODE_FLOPS = 1.10e12  # of a base page
SAMPLES = os.path.realpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "test", "samples"))


def ours(b, model, threads=None, batch=1, **environment):
    return b.worker([b.o.stages, "--model", model, "--threads", str(threads or b.o.threads), "--batch", str(batch)],
                    **environment)


def llama(b, weights, batch=1):
    folder = b.o.peers + "/gguf/"
    return b.worker([b.o.peers + "/bin/llama_peer", "--model", f"{folder}{weights}.gguf", "--mmproj",
                     folder + "mmproj-bf16.gguf", "--threads", str(b.o.threads), "--batch", str(batch)])


def torch(b, part):
    here = os.path.dirname(os.path.abspath(__file__))
    return b.worker([b.o.peers + "/venv/bin/python", here + "/torch_peer.py", b.o.model, part, str(b.o.threads)])


def model(b, precision):
    return b.o.model if precision == "bf16" else f"{b.o.peers}/{precision}"


def seconds(b, reply):
    return reply["wall_s" if b.o.wall else "cpu_s"]


def reading(b, worker, n):
    """n bytes at the rate of a plain loop; that loop has one thread."""
    r = worker.ask("read")
    return n * seconds(b, r) / r["n"]


def product(b, worker, flops):
    r = worker.ask("product")
    return flops * seconds(b, r) / r["n"]


# ---- nano ----

def nano(b):
    name = "nano, 640 x 640, 300 characters"
    if not b.o.server or not b.wanted(name):
        return
    folder = os.path.join(b.o.server[1], "pages")
    pages = sql_pages.draw(SAMPLES, folder, PAGES)
    server = sql_pages.Server(*b.o.server, pages)
    tesseract = sql_pages.Tesseract(folder, pages, b.o.threads)
    b.figure(name, {"dsocr in SQL": server.run, "Tesseract": tesseract.run}, unit="pages/s", goals={"Tesseract": 5})
    f = b.result["figures"].get(name)
    if f and name not in b.failed:
        last = {side: runs[-1] for side, runs in f["sides"].items()}
        b.note("nano", ", ".join(f"{side}: {100 * r['wrong']:.1f} % of characters wrong" for side, r in last.items()) +
               f"; {last['dsocr in SQL']['characters']:.0f} characters a page written; "
               f"engine at most {server.resident_mb():.0f} MB resident")


# ---- single stages of the model of full size ----

def encode(b):
    name = "encode a base page"
    if not b.wanted(name):
        return
    mine = ours(b, b.o.model)
    sides = {"dsocr": lambda: mine.ask("encode 1024")}
    goals = {}
    if os.path.exists(b.o.peers + "/gguf/q4_k_m.gguf"):
        peer = llama(b, "q4_k_m")  # of the language model it needs the dimensions
        sides["llama.cpp"] = lambda: peer.ask("encode")
        goals["llama.cpp"] = 3
    other = torch(b, "encoder")
    sides["PyTorch"] = lambda: other.ask("encode 1024")
    goals["PyTorch"] = 1.5
    b.figure(name, sides, goals=goals, limit=lambda: product(b, mine, ENCODE_FLOPS))
    b.stop()


def same_choice(b, name):
    """Equal prompts: did both sides choose the same token?"""
    f = b.result["figures"].get(name)
    if f and b.wanted(name):
        b.note(name, "token chosen: " + ", ".join(f"{s} {runs[-1]['choice']}" for s, runs in f["sides"].items()))


def decoder(b, mine, name, peers, goals, weight):
    """Prefill and decoding; peers: names to workers."""
    first, second = f"prefill 273, {name}", f"decode, {name}"
    sides = {"dsocr": mine, **peers}
    b.figure(first, {k: (lambda w=w: w.ask(f"prefill {PROMPT}")) for k, w in sides.items()},
             goals={k: goals[0] for k in peers if goals[0]},
             limit=lambda: product(b, mine, 2 * (ACTIVE - 1280 * 129280) * PROMPT))
    same_choice(b, first)
    if not b.wanted(first) and b.wanted(second):
        for w in sides.values():
            w.ask(f"prefill {PROMPT}")
    size = WEIGHT_BYTES[weight] * ACTIVE + KV_BYTES * (PROMPT + STEPS / 2)
    b.figure(second, {k: (lambda w=w: w.ask(f"decode {STEPS}")) for k, w in sides.items()}, unit="tokens/s",
             goals={k: goals[1] for k in peers if goals[1]}, limit=lambda: 1 / reading(b, mine, size))
    b.stop()


def stages(b):
    encode(b)
    for mine, theirs, prefill, decode in PRECISIONS:
        name = f"{mine} and {theirs.upper()}"
        if b.wanted(f"prefill 273, {name}") or b.wanted(f"decode, {name}"):
            decoder(b, ours(b, model(b, mine)), name, {"llama.cpp": llama(b, theirs)}, (prefill, decode), mine)
    if b.wanted("prefill 273, PyTorch") or b.wanted("decode, PyTorch"):
        decoder(b, ours(b, b.o.model), "PyTorch", {"PyTorch": torch(b, "decoder")}, (None, None), "bf16")
    for mine, theirs, _, _ in PRECISIONS:
        name = f"4 texts at once, {mine} and {theirs.upper()}"
        if b.wanted(name):
            workers = {"dsocr": ours(b, model(b, mine), batch=4), "llama.cpp": llama(b, theirs, batch=4)}
            for w in workers.values():
                w.ask(f"batch {PROMPT} 4")
            b.figure(name, {k: (lambda w=w: w.ask(f"steps {STEPS}")) for k, w in workers.items()}, unit="tokens/s")
            b.stop()


# ---- four pages ----

def sample_files():
    return [f"{SAMPLES}/{n}.png" for n in ("letter", "log", "notice", "receipt")]


def four_pages(b):
    import llama_server
    for mine, theirs, _, _ in PRECISIONS:
        name = f"4 pages at once, {mine} and {theirs.upper()}"
        if not b.wanted(name):
            continue
        files = sample_files()
        worker = ours(b, model(b, mine), batch=4)
        try:
            with llama_server.LlamaServer(b.o.peers, theirs, b.o.threads, b.log) as server:
                b.figure(name, {"dsocr": lambda: worker.ask(f"page {TOKENS} " + " ".join(files)),
                                "llama.cpp": lambda: server.pages(files, TOKENS)}, goals={"llama.cpp": 4}, rounds=2)
        except (RuntimeError, OSError) as e:
            print(f"{name}: {e}")
            b.failed.append(name)
        f = b.result["figures"].get(name)
        if f:
            b.note(name, "tokens written: " + ", ".join(f"{s} {runs[-1]['n']}" for s, runs in f["sides"].items()))
        b.stop()


# ---- our own ----

def isa(b, workers, size, prompt, steps):
    """The same with fewer instructions; the first worker has the most."""
    (most, _), (less, _) = workers.items()
    lines = {f"encode, {most} and {less}": f"encode {size}", f"prefill, {most} and {less}": f"prefill {prompt}",
             f"decode, {most} and {less}": f"decode {steps}"}
    for name, line in lines.items():
        if line.startswith("decode"):
            for w in workers.values():
                w.ask(f"prefill {prompt}")
        b.figure(name, {k: (lambda w=w: w.ask(line)) for k, w in workers.items()}, clock="cpu")


def instruction_sets(b):
    sets = {"AVX-512 BF16": {"DSOCR_ISA": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
            "AVX2": {"DSOCR_ISA": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}}
    if not any(b.wanted(f"{x}, AVX-512 BF16 and AVX2") for x in ("encode", "prefill", "decode")):
        return
    workers = {k: ours(b, b.o.model, 1, **e) for k, e in sets.items()}
    isa(b, workers, 1024, PROMPT, STEPS)
    b.stop()
    done = subprocess.run([b.o.engine, "check", "build/golden"], capture_output=True, text=True,
                          env=dict(os.environ, **sets["AVX2"]))
    lines = [x for x in done.stdout.splitlines() if "passed" in x]
    b.note("reference data with AVX2", lines[-1] if lines else f"status {done.returncode}")


def busy(b):
    """Speed beside a process that never waits, as a share of the speed without it.

    Two threads, two cores: the time on the clock counts."""
    for what in ("encode 1024", f"decode {STEPS}"):
        name = f"{what} beside a busy process"
        if not b.wanted(name):
            continue
        worker = ours(b, b.o.model, 2)
        worker.ask(f"prefill {PROMPT}")

        def beside():
            other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            try:
                return worker.ask(what)
            finally:
                other.kill()
                other.wait()

        # a "ratio" of 0.45: the other side takes 1 / 0.45 times as long
        b.figure(name, {"beside": beside, "alone": lambda: worker.ask(what)}, goals={"alone": 0.45}, clock="wall")
        b.stop()


def memory(b):
    name = "memory, int4"
    if not b.wanted(name):
        return
    worker = ours(b, model(b, "int4"), batch=4)
    worker.ask(f"page {TOKENS} " + " ".join(sample_files()))
    r = worker.ask("info")
    b.note(name, f"{r['peak_kb'] / 2 ** 20:.2f} GiB resident at most ({r['peak_kb'] * 1024 / 1e9:.2f} GB), "
           f"{r['anonymous_kb'] / 2 ** 20:.2f} GiB of it not the model's file; goal 3 GB")
    b.stop()


def run(b):
    nano(b)
    if not b.o.model or not b.o.peers:
        return
    stages(b)
    four_pages(b)
    instruction_sets(b)
    busy(b)
    memory(b)
