"""What a run keeps on disk, and where a run can start from.

state.pt holds everything to go on as if nothing had happened.  A parcel is the
small form of it that fits through a narrow door: weights and averages in bf16,
compressed, in files of at most 15 MiB; the optimizer warms up again after it.
"""
import glob
import io
import json
import lzma
import math
import os

import torch

import tokens

PARCEL_PART = 15 << 20


def save(path, content):
    """Atomically: a kill leaves the old file or the new one."""
    torch.save(content, path + ".new")
    os.replace(path + ".new", path)


def _rows(old_ids, new_ids, old, new):
    """Copies rows of an old table to where their tokens are now; new tokens begin with the mean of the old."""
    new.copy_(old.float().mean(0).expand_as(new))
    for token, i in new_ids.items():
        if token in old_ids and old_ids[token] < old.shape[0]:
            new[i] = old[old_ids[token]]


def _vocabulary(tok):
    ids = dict(tok.json["model"]["vocab"])
    ids.update({a["content"]: a["id"] for a in tok.json["added_tokens"]})
    return ids


def adopt(weights, helpers, model, helper_module, old_tok, tok):
    """Loads weights that were trained with old_tok into a model of tok."""
    fresh = model.state_dict()
    with torch.no_grad():
        for name, value in weights.items():
            if name in ("model.embed_tokens.weight", "lm_head.weight"):
                _rows(_vocabulary(old_tok), _vocabulary(tok), value, fresh[name])
            elif fresh[name].shape == value.shape:
                fresh[name].copy_(value)
        mine = helper_module.state_dict()
        old_classes, classes = dict(old_tok.classes, nothing=0), dict(tok.classes, nothing=0)
        for name, value in (helpers or {}).items():
            if name not in mine:
                continue  # of a helper that is no more
            if name in ("p2.weight", "p2.bias", "c2.weight", "c2.bias"):
                _rows(old_classes, classes, value, mine[name])
            else:
                mine[name].copy_(value)


def read_checkpoint(folder):
    from safetensors.torch import load_file
    return {k: v.float() for k, v in load_file(folder + "/model.safetensors").items()}


def write_helpers(path, helpers, counters):
    from safetensors.torch import save_file
    save_file({k: v.detach().to(torch.bfloat16).contiguous().clone() for k, v in helpers.items()}, path,
              metadata={"counters": json.dumps(counters)})


def read_helpers(path):
    """Helpers by name and the counters of the run they are of; nothing if there is no such file."""
    from safetensors import safe_open
    if not os.path.exists(path):
        return {}, {}
    with safe_open(path, "pt") as f:
        return {k: f.get_tensor(k).float() for k in f.keys()}, json.loads(f.metadata()["counters"])


def write_parcel(folder, content, named):
    """named: {"weights": {...}, "average": {...}}; content: small things, as JSON."""
    layout, low, high = [], io.BytesIO(), io.BytesIO()
    for kind in sorted(named):
        for name in sorted(named[kind]):
            value = named[kind][name].detach().cpu().bfloat16().contiguous()
            raw = value.view(torch.uint8).view(-1, 2)
            low.write(raw[:, 0].contiguous().numpy().tobytes())
            high.write(raw[:, 1].contiguous().numpy().tobytes())
            layout.append([kind, name, list(value.shape)])
    # the bytes with sign and exponent shrink to less than half, the others hardly
    packed = lzma.compress(high.getvalue(), preset=1)
    _write_parts(folder, dict(content, layout=layout, packed=len(packed)), packed + low.getvalue())


def write_small_parcel(folder, content, average):
    """The averages only, in 8 bits with a scale for each row: half of the size, one percent of noise."""
    layout, body = [], io.BytesIO()
    for name in sorted(average):
        value = average[name].detach().cpu().float()
        rows = value.reshape(value.shape[0] if value.ndim > 1 else 1, -1)
        scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        body.write(scale.numpy().tobytes())
        body.write((rows / scale).round().to(torch.int8).numpy().tobytes())
        layout.append([name, list(value.shape), rows.shape[0]])
    packed = lzma.compress(body.getvalue(), preset=1)
    _write_parts(folder, dict(content, small=layout, packed=len(packed)), packed)


def _write_parts(folder, content, data):
    os.makedirs(folder, exist_ok=True)
    for old in glob.glob(folder + "/parcel.*"):
        os.remove(old)
    head = json.dumps(content).encode()
    whole = len(head).to_bytes(8, "little") + head + data
    for i in range(0, len(whole), PARCEL_PART):
        with open(f"{folder}/parcel.{i // PARCEL_PART}", "wb") as f:
            f.write(whole[i:i + PARCEL_PART])


def _numbers(raw, kind, count):
    return torch.frombuffer(bytearray(raw), dtype=kind, count=count)


def _read_small(layout, body):
    average, at = {}, 0
    for name, shape, rows in layout:
        n = math.prod(shape)
        scale = _numbers(body[at:at + rows * 4], torch.float32, rows)
        at += rows * 4
        value = _numbers(body[at:at + n], torch.int8, n).float().view(rows, -1) * scale[:, None]
        at += n
        average[name] = value.view(shape)
    return {"weights": average, "average": average}


def read_parcel(folder):
    files = sorted(glob.glob(folder + "/parcel.*"), key=lambda f: int(f.rsplit(".", 1)[1]))
    whole = b""
    for name in files:
        with open(name, "rb") as f:
            whole += f.read()
    n = int.from_bytes(whole[:8], "little")
    content = json.loads(whole[8:8 + n])
    high = lzma.decompress(whole[8 + n:8 + n + content["packed"]])
    if "small" in content:
        return content, _read_small(content["small"], high)
    low = whole[8 + n + content["packed"]:]
    raw = torch.stack([_numbers(low, torch.uint8, len(low)), _numbers(high, torch.uint8, len(high))], 1)
    values = raw.contiguous().view(-1).view(torch.bfloat16)
    named, at = {}, 0
    for kind, name, shape in content["layout"]:
        n = math.prod(shape)
        named.setdefault(kind, {})[name] = values[at:at + n].view(shape).float()
        at += n
    return content, named


def tokenizer_for(template, path):
    """Writes the tokenizer of the run and reads it back."""
    if not os.path.exists(path):
        with open(template, encoding="utf-8") as f:
            built = tokens.build(json.load(f))
        with open(path + ".new", "w", encoding="utf-8") as f:
            json.dump(built, f, ensure_ascii=False, indent=1)
        os.replace(path + ".new", path)
    return tokens.Tokens(path)
