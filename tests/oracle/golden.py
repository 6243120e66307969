"""What the oracle scripts share: where golden files lie, how they are written, where they came from."""

import json
import platform
from importlib import metadata
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

GOLDEN = Path(__file__).resolve().parent.parent / "golden"


def provenance(script, **facts):
    """The line a golden file carries: script, versions, and whatever else fixes its numbers."""
    versions = {"python": platform.python_version()}
    for name in ("torch", "transformers", "tokenizers", "numpy", "gguf"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return {"script": f"tests/oracle/{Path(script).name}", "versions": versions, **facts}


def save_tensors(path, tensors, origin):
    """Write f32 and i32 arrays. One metadata key, since the order of several is not kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for name, value in tensors.items():
        value = value.detach().numpy() if hasattr(value, "detach") else np.asarray(value)
        kind = np.int32 if np.issubdtype(value.dtype, np.integer) else np.float32
        # At least one dimension: a scalar is (1).
        arrays[name] = np.ascontiguousarray(np.atleast_1d(value).astype(kind))
    save_file(arrays, path, {"provenance": json.dumps(origin, sort_keys=True)})
    path.chmod(0o644)
    report(path)


def save_json(path, value):
    """Readable, but a list of numbers stays on one line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_format(value, 0) + "\n", encoding="utf-8")
    report(path)


def _format(value, depth):
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or len(flat) + depth < 100:
        return flat
    if isinstance(value, list) and all(isinstance(v, (int, float)) for v in value):
        return flat
    if isinstance(value, list) and len(flat) < 300 and not any(
            isinstance(v, (dict, list)) for v in value):
        return flat
    pad = " " * (depth + 2)
    if isinstance(value, dict):
        rows = [f"{pad}{json.dumps(k, ensure_ascii=False)}: {_format(v, depth + 2)}"
                for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + "\n" + " " * depth + "}"
    return "[\n" + ",\n".join(pad + _format(v, depth + 2) for v in value) + "\n" + " " * depth + "]"


def report(path):
    print(f"{path.relative_to(GOLDEN.parent.parent)}  {path.stat().st_size} bytes")
