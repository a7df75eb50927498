"""Weights, IDX files, batches of CIFAR-10, detectors and stores that are not what they should be, from one seed."""

import gzip
import io
import json
import math
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save as safetensors
from torch import Tensor

SEED = 15


def _saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


class _Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return Path.touch, (self.place,)


def malformed_weights(state: dict[str, Tensor], mark: Path) -> Iterator[tuple[str, bytes]]:
    """Yield files that are no weights of the network with this state; code in them would make the file `mark`."""
    whole, legacy = safetensors(state), _saved(state)
    for eighths in range(8):
        yield f"cut_{eighths}_of_8.safetensors", whole[: len(whole) * eighths // 8]
        yield f"cut_{eighths}_of_8.pth", legacy[: len(legacy) * eighths // 8]
    name, tensor = next((name, value) for name, value in state.items() if value.is_floating_point())
    others = {
        "another_network": {"layer.weight": torch.zeros(3)},
        "nothing": {},
        "a_tensor_less": {key: value for key, value in state.items() if key != name},
        "a_tensor_more": state | {"someones.weight": torch.zeros(2)},
        "another_shape": state | {name: tensor.flatten()[:1]},
        "integers": state | {name: tensor.to(torch.int32)},
        "bytes": state | {name: tensor.to(torch.uint8)},
        "booleans": state | {name: tensor.to(torch.bool)},
        "nan": state | {name: torch.full_like(tensor, torch.nan)},
        "infinity": state | {name: torch.full_like(tensor, torch.inf)},
        "nan_in_half": state | {name: torch.full_like(tensor, torch.nan, dtype=torch.float16)},
        "nan_in_bfloat16": state | {name: torch.full_like(tensor, torch.nan, dtype=torch.bfloat16)},
    }
    for kind, content in others.items():
        yield f"{kind}.safetensors", safetensors({key: value.contiguous() for key, value in content.items()})
        yield f"{kind}.pth", _saved(content)
    yield "complex.pth", _saved(state | {name: tensor.to(torch.complex64)})
    yield "sparse.pth", _saved(state | {name: tensor.to_sparse()})
    yield "numbered.pth", _saved(dict(enumerate(state.values())))
    yield "list.pth", _saved(list(state.values()))
    yield "text.pth", _saved("weights")
    yield "none.pth", _saved(None)
    yield "mixed.pth", _saved(state | {"epoch": 3})
    yield "harmful.pth", _saved({"state_dict": _Harmful(mark)})
    yield "harmful_pickle.pth", pickle.dumps(_Harmful(mark))
    yield "harmful.safetensors", pickle.dumps(_Harmful(mark))
    yield "image.pth", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "endless_header.safetensors", struct.pack("<Q", 2**62) + b"{}"
    yield "header_is_no_json.safetensors", struct.pack("<Q", 8) + b"not json"
    beyond = json.dumps({name: {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    yield "offsets_beyond_the_end.safetensors", struct.pack("<Q", len(beyond)) + beyond
    unknown = json.dumps({name: {"dtype": "X99", "shape": [1], "data_offsets": [0, 4]}}).encode()
    yield "unknown_dtype.safetensors", struct.pack("<Q", len(unknown)) + unknown + bytes(4)


def malformed_idx() -> Iterator[tuple[str, bytes]]:
    """Yield files that are no IDX file of 3 dimensions."""
    pixels = np.zeros((4, 5, 6), np.uint8).tobytes()
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 4, 5, 6)
    whole = header + pixels
    for eighths in range(8):
        yield f"cut_{eighths}_of_8", whole[: len(whole) * eighths // 8]
        packed = gzip.compress(whole, mtime=0)
        yield f"cut_{eighths}_of_8.gz", packed[: len(packed) * eighths // 8]
    yield "too_long", whole + b"\0"
    yield "floats", struct.pack(">BBBBIII", 0, 0, 13, 3, 4, 5, 6) + pixels
    yield "labels", struct.pack(">BBBBI", 0, 0, 8, 1, 4) + bytes(4)
    yield "endless", struct.pack(">BBBBIII", 0, 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1)
    yield "png", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "not_packed.gz", whole
    yield "bomb.gz", gzip.compress(bytes(1 << 21), 9, mtime=0)


def malformed_batches(mark: Path) -> Iterator[tuple[str, bytes]]:
    """Yield files that are no batch of CIFAR-10; code in one would make the file `mark`."""
    whole = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [0]}, protocol=2)
    for eighths in range(8):
        yield f"cut_{eighths}_of_8", whole[: len(whole) * eighths // 8]
    yield "harmful", pickle.dumps(_Harmful(mark))
    yield "list", pickle.dumps([1, 2])
    yield "number", pickle.dumps(3)
    yield "text_keys", pickle.dumps({"data": 1, "labels": 2})
    yield "numbers_for_data", pickle.dumps({b"data": 3, b"labels": [0]})
    yield "words_for_labels", pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": ["cat"]})
    yield "floats_for_data", pickle.dumps({b"data": np.zeros((1, 3072)), b"labels": [0]})
    yield "too_few_values", pickle.dumps({b"data": np.zeros((1, 9), np.uint8), b"labels": [0]})
    yield "eleventh_class", pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]})
    yield "recalls_what_is_not_there", b"\x80\x04h\x05."
    yield "empty_stack", b"\x80\x04."
    yield "unknown_protocol", b"\x80\x63N."
    yield "endless_text", b"\x80\x04\x8d" + struct.pack("<Q", 2**62)
    yield "zeros", bytes(500)


#: What is done to a detector's folder, and is an error that names the file.
DETECTOR_CHANGES: dict[str, Callable[[dict], object]] = {
    "no_format": lambda facts: facts.pop("format"),
    "format_as_text": lambda facts: facts.update(format="1"),
    "format_of_the_future": lambda facts: facts.update(format=99),
    "no_system": lambda facts: facts.pop("system"),
    "system_is_a_number": lambda facts: facts.update(system=3),
    "system_is_a_module": lambda facts: facts.update(system="os.system"),
    "no_settings": lambda facts: facts.pop("settings"),
    "settings_are_a_list": lambda facts: facts.update(settings=[]),
    "settings_are_of_another_system": lambda facts: facts.update(settings={"students": {}}),
    "no_frozen_half": lambda facts: facts.update(frozen={}),
    "frozen_is_null": lambda facts: facts.update(frozen=None),
    "frozen_is_text": lambda facts: facts["frozen"].update(source="weights"),
    "weights_above": lambda facts: facts["frozen"]["source"].update(weights="../../weights.safetensors"),
    "weights_absolute": lambda facts: facts["frozen"]["source"].update(weights="/etc/passwd"),
    "weights_on_the_web": lambda facts: facts["frozen"]["source"].update(weights="https://example.org/w.pth"),
    "network_of_the_hub": lambda facts: facts["frozen"]["source"].update(name="timm:hf-hub:someone/something"),
    "network_in_a_folder": lambda facts: facts["frozen"]["source"].update(name="timm:local-dir:/tmp"),
    "unknown_network": lambda facts: facts["frozen"]["source"].update(name="vgg99"),
    "unknown_points": lambda facts: facts["frozen"]["source"].update(critical_points=["nowhere"]),
    "another_fingerprint": lambda facts: facts["frozen"]["source"].update(fingerprint="0" * 16),
    "means_are_words": lambda facts: facts["frozen"]["source"].update(mean=["a", "b", "c"]),
    "two_means": lambda facts: facts["frozen"]["source"].update(mean=[0.0, 0.0]),
    "no_learnt_half": lambda facts: facts.pop("learnt"),
    "learnt_is_null": lambda facts: facts.update(learnt=None),
    "another_hash": lambda facts: facts.update(learnt_sha256="0" * 64),
    "no_hash": lambda facts: facts.pop("learnt_sha256"),
    "threshold_is_a_number": lambda facts: facts.update(threshold=0.5),
    "threshold_is_empty": lambda facts: facts.update(threshold={}),
    "another_threshold": lambda facts: facts["threshold"].update(value=1e9),
    "scores_are_text": lambda facts: facts.update(validation_scores="many"),
    "scores_are_null": lambda facts: facts.update(validation_scores=None),
    "image_of_no_size": lambda facts: facts["image"].update(size=[0, 0]),
    "image_of_one_side": lambda facts: facts["image"].update(size=[64]),
    "another_image_size": lambda facts: facts["image"].update(size=[8, 8]),
    "unknown_fit": lambda facts: facts["image"].update(fit="stretch"),
    "another_fit": lambda facts: facts["image"].update(fit="letterbox"),
    "range_upside_down": lambda facts: facts["image"].update(values={"kind": "float", "low": 1, "high": 0}),
    "range_without_end": lambda facts: facts["image"].update(values={"kind": "float", "low": 0, "high": math.inf}),
    "range_of_nothing": lambda facts: facts["image"].update(values={"kind": "float", "low": math.nan, "high": 1}),
    "one_limit": lambda facts: facts.update(colour_limits=[1.0]),
    "something_more": lambda facts: facts.update(command="rm"),
    "record_is_text": lambda facts: facts.update(made_by="me"),
    "another_record": lambda facts: facts["made_by"].update(dataset="another"),
    "another_precision": lambda facts: facts.update(precision="int4"),
}
