"""From the results of bench.py to tables, and the limits beside them."""

import statistics

# The official model.
HIDDEN, LAYERS, VOCAB, DENSE, INTER, EXPERTS, TOP, SHARED = 1280, 12, 129280, 6848, 896, 64, 6, 2
SAM, SAM_LAYERS, SAM_GLOBAL, WINDOW, NECK, NET2, NET3 = 768, 12, 4, 14, 256, 512, 1024
CLIP, CLIP_LAYERS = 1024, 24


def encode_flops(size):
    """Operations of one view."""
    side = size // 16
    p, t = side * side, side * side // 16 + 1
    padded = -(-side // WINDOW) * WINDOW
    total = 2 * p * SAM * 768 + SAM_LAYERS * 24 * p * SAM * SAM
    total += 4 * SAM * (SAM_GLOBAL * p * p + (SAM_LAYERS - SAM_GLOBAL) * padded ** 2 * WINDOW ** 2)
    total += 2 * p * (SAM * NECK + 9 * NECK * NECK)
    total += 2 * p // 4 * 9 * NECK * NET2 + 2 * p // 16 * 9 * NET2 * NET3
    total += CLIP_LAYERS * (24 * t * CLIP * CLIP + 4 * t * t * CLIP)
    return total + 2 * t * 2 * CLIP * HIDDEN


def active(rows):
    """Decoder weights that a step of so many rows reads, each choosing experts at random."""
    touched = EXPERTS * (1 - (1 - TOP / EXPERTS) ** rows)
    moe = HIDDEN * EXPERTS + 3 * HIDDEN * INTER * (touched + SHARED)
    return LAYERS * 4 * HIDDEN * HIDDEN + 3 * HIDDEN * DENSE + (LAYERS - 1) * moe + HIDDEN * VOCAB


def step_bytes(rows, context):
    """Weights read once, keys and values of all rows, in bf16."""
    return 2 * active(rows) + rows * context * LAYERS * 2 * HIDDEN * 2


def prefill_flops(n):
    """All products of n tokens, lm_head for the last alone, causal attention."""
    one = LAYERS * 4 * HIDDEN * HIDDEN + 3 * HIDDEN * DENSE
    one += (LAYERS - 1) * (HIDDEN * EXPERTS + 3 * HIDDEN * INTER * (TOP + SHARED))
    return 2 * n * one + 2 * HIDDEN * VOCAB + LAYERS * 2 * n * n * HIDDEN


def limit_ms(f, facts):
    """The least time that the measured ceilings allow, 0 when it is not known."""
    ms = 0
    if facts.get("copy_bytes_per_s") and f.get("bytes"):
        ms = max(ms, 1e3 * f["bytes"] / facts["copy_bytes_per_s"])
    if facts.get("product_flops_per_s") and f.get("flops"):
        ms = max(ms, 1e3 * f["flops"] / facts["product_flops_per_s"])
    return ms


def line(f):
    """A figure as it has been measured, for the log."""
    parts = [f"{f['name']:<34}"]
    if "ours_ms" in f:
        parts.append(f"{f['ours_ms']:10.3f} ms")
    if "peer_ms" in f:
        parts.append(f"PyTorch {f['peer_ms']:10.3f} ms ({f['peer_best']})")
    if "ratio" in f:
        parts.append(f"x {f['ratio']:.2f}")
    for k in ("tokens_per_s", "pages_per_s"):
        if k in f:
            parts.append(f"{f[k]:.1f} {k[:-6]}/s")
    parts += [f"{k}: {v[:80]}" for k, v in f["errors"].items()]
    return "  ".join(parts)


def kernel_row(k, facts):
    limit = 1e3 * limit_ms(k, facts)
    rate = []
    if k.get("bytes"):
        rate.append(f"{k['bytes'] / k['us'] / 1e3:.0f} GB/s")
    if k.get("flops"):
        rate.append(f"{k['flops'] / k['us'] / 1e6:.1f} TFLOP/s")
    share = f"{100 * limit / k['us']:.0f} %" if limit else ""
    return (f"| {k['kernel']} | {k['us']:.1f} | {k['how']} | {', '.join(rate)} "
            f"| {limit:.1f} | {share} |")


def spread(values):
    return f"{statistics.median(values):.3f}" + (
        f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else "")


def figure_row(f, facts):
    limit = limit_ms(f, facts)
    ours = spread(f["ours"]) if f["ours"] else "failed" if "ours" in f["errors"] else ""
    peer = "; ".join(f"{v} {spread(ms)}" for v, ms in f["peer"].items())
    share = f"{100 * limit / f['ours_ms']:.0f} %" if limit and "ours_ms" in f else ""
    rates = [f"{1e3 * f['batch'] / f['ours_ms']:.0f} tokens/s"] \
        if "batch" in f and "ours_ms" in f else []
    if "pages_per_s" in f:
        rates += [f"{f['pages_per_s']:.2f} pages/s", f"{f['tokens_per_s']:.0f} tokens/s"]
    ratio = f"{f['ratio']:.2f}" if "ratio" in f else ""
    return (f"| {f['name']} | {ours} | {limit:.3f} | {share} | {', '.join(rates)} | {peer} "
            f"| {ratio} |")


def header(r):
    facts = r["facts"]
    ours = facts.get("ours", {})
    device = ours.get("facts") or {}
    peer = facts.get("peer", {})
    text = [f"# GPU: {device.get('name', ours.get('description', r['device']))}", ""]
    text.append(f"`tools/gpu/bench`, {r['started']}, {r.get('seconds', 0):.0f} s in all. "
                f"{ours.get('description', '')}, {device.get('sms', '?')} multiprocessors, "
                f"{device.get('memory_bytes', 0) / 2 ** 30:.1f} GiB, "
                f"{device.get('l2_bytes', 0) / 2 ** 20:.0f} MiB of L2, driver for CUDA "
                f"{device.get('driver_cuda', '?')}, cuBLASLt "
                f"{'found' if device.get('cublaslt') else 'not found'}; PyTorch "
                f"{peer.get('torch', 'not there')} in the same run.")
    if r["quick"]:
        text += ["", "**Small settings to try the script: these are no measurements.**"]
    text += ["", f"Ceilings of the same run: device-to-device copy "
             f"{facts.get('copy_bytes_per_s', 0) / 1e12:.3f} TB/s (read and written), large bf16 "
             f"product {facts.get('product_flops_per_s', 0) / 1e12:.1f} TFLOP/s. `limit` is the "
             "larger of bytes over the one and operations over the other.", ""]
    return text


def render(r):
    facts = r["facts"]
    text = header(r)
    if r["figures"]:
        text += ["## Model", "", "Milliseconds, medians (least to most of the rounds). Both sides "
                 "took turns; the ratio is the best PyTorch variant over ours.", "",
                 "| what | ours | limit | of limit | rate | PyTorch | ratio |",
                 "| --- | ---: | ---: | ---: | --- | --- | ---: |"]
        text += [figure_row(f, facts) for f in r["figures"]] + [""]
    if r["kernels"]:
        text += ["## Operations", "", "Microseconds a launch, median; `graph`: many launches "
                 "recorded and replayed, `stream`: put into the stream one by one, which for "
                 "short operations is the host's time.", "",
                 "| operation | us | how | rate | limit | of limit |",
                 "| --- | ---: | --- | --- | ---: | ---: |"]
        text += [kernel_row(k, facts) for k in r["kernels"] if k.get("us")] + [""]
    for name, reply in r["traces"].items():
        ops = reply.get("ops", [])
        total = sum(o["us"] for o in ops) or 1
        text += [f"## Where the time goes: {name}", "",
                 f"{reply.get('ms', 0):.3f} ms; operation by operation {total / 1e3:.3f} ms.", "",
                 "| operation | times | us | share |", "| --- | ---: | ---: | ---: |"]
        text += [f"| {o['op']} | {o['times']} | {o['us']:.0f} | {100 * o['us'] / total:.1f} % |"
                 for o in ops[:20]] + [""]
    errors = [f"- {f['name']}, {k}: {v}" for f in r["figures"] for k, v in f["errors"].items()]
    if errors or r["skipped"]:
        text += ["## Not measured", ""] + errors + [f"- {s}: no time" for s in r["skipped"]] + [""]
    return "\n".join(text)


def short(r):
    """The end of the output: what one wants to know first."""
    facts = r["facts"]
    text = [f"copy {facts.get('copy_bytes_per_s', 0) / 1e12:.3f} TB/s, product "
            f"{facts.get('product_flops_per_s', 0) / 1e12:.1f} TFLOP/s"]
    slow = sorted((k for k in r["kernels"] if k.get("us") and limit_ms(k, facts)),
                  key=lambda k: limit_ms(k, facts) * 1e3 / k["us"])
    text += ["operations farthest from their limit:"] if slow else []
    text += [f"  {k['kernel']:<52} {k['us']:9.1f} us  "
             f"{100e3 * limit_ms(k, facts) / k['us']:5.1f} %" for k in slow[:12]]
    for f in r["figures"]:
        limit = limit_ms(f, facts)
        share = f"{100 * limit / f['ours_ms']:5.1f} % of limit" if limit and "ours_ms" in f else ""
        text.append(f"{line(f)}  {share}")
    return "\n".join(text)
