from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from jukebox_core.errors import CheckpointError
from jukebox_core.models.checkpoints.checkpoint import load_into, open_checkpoint, save_safetensors

RENAMES = ((r"table\.weight", "embedding.weight"), (r"(body)\.(\d+)\.w", r"\1.\2.weight"), (r"(.*)\.b", r"\1.bias"))
HPS = {"level": 2, "prior_width": 6, "strides_t": (2, 2), "name": ""}


class Net(nn.Module):
    """An embedding tied to the output, a stack and a buffer: the traits of a prior that loading must know."""

    def __init__(self, tied: bool = False, width: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, width)
        self.body = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width)])
        self.register_buffer("codebook", torch.zeros(3, width))
        if tied:
            self.out = nn.Linear(width, 5, bias=False)
            self.out.weight = self.embedding.weight


def weights(prefix: str = "", half: bool = False) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes: dict[str, tuple[int, ...]] = {"table.weight": (5, 6), "codebook": (3, 6)}
    shapes |= {f"body.{i}.w": (6, 6) for i in range(2)} | {f"body.{i}.b": (6,) for i in range(2)}
    made = {prefix + name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: tensor.half() if half and name.endswith(".w") else tensor for name, tensor in made.items()}


RENAMES_WITH_CODEBOOK = (*RENAMES, (r"codebook", "codebook"))


def upstream(path: Path, state: Any, *, zipped: bool = True, **changes: Any) -> Path:
    content = {"model": state, "hps": HPS, "step": 7, "opt": None, **changes}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def loaded(path: Path, net: nn.Module, **options: Any) -> nn.Module:
    load_into(net, open_checkpoint(path), RENAMES_WITH_CODEBOOK, **options)
    return net


def on_meta(**options: Any) -> Net:
    with torch.device("meta"):
        return Net(**options)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("half", [True, False])
def test_both_formats_of_torch_load_into_a_module_on_meta(
    tmp_path: Path, zipped: bool, prefix: str, half: bool
) -> None:
    path = upstream(tmp_path / "prior.pth.tar", weights(prefix, half), zipped=zipped)
    checkpoint = open_checkpoint(path)
    assert checkpoint.metadata == HPS
    assert checkpoint.step == 7
    net = loaded(path, on_meta())
    expected = weights(half=half)
    assert torch.equal(net.embedding.weight, expected["table.weight"])
    assert torch.equal(net.body[1].weight, expected["body.1.w"])
    assert torch.equal(net.body[1].bias, expected["body.1.b"])
    assert torch.equal(net.codebook, expected["codebook"])
    assert net.body[0].weight.dtype == (torch.float16 if half else torch.float32)
    assert not isinstance(net.codebook, nn.Parameter)
    assert net.embedding.weight.requires_grad


@pytest.mark.parametrize("zipped", [True, False])
def test_saved_state_dicts_with_versions_views_and_parameters_load(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(30.0)
    state = OrderedDict(weights())
    state["table.weight"] = nn.Parameter(base.reshape(6, 5).T)  # strided
    state["body.0.b"] = base[4:10]  # same storage, from inside it
    state._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    net = loaded(upstream(tmp_path / "x.pth.tar", state, zipped=zipped), on_meta())
    assert torch.equal(net.embedding.weight, base.reshape(6, 5).T)
    assert torch.equal(net.body[0].bias, base[4:10])


def test_unaligned_tensors_of_the_older_format_are_copied(tmp_path: Path) -> None:
    for pad in range(4):  # names of different lengths move the storages to every alignment
        path = upstream(tmp_path / f"{pad}.pth.tar", weights(), zipped=False, hps={"x": "y" * pad})
        net = loaded(path, on_meta())
        assert all(tensor.data_ptr() % tensor.element_size() == 0 for tensor in net.state_dict().values())
        assert torch.equal(net.codebook, weights()["codebook"])


def test_writing_to_loaded_weights_leaves_the_file_alone(tmp_path: Path) -> None:
    for zipped in (True, False):
        path = upstream(tmp_path / f"{zipped}.pth.tar", weights(), zipped=zipped)
        before = path.read_bytes()
        with torch.no_grad():
            loaded(path, on_meta()).codebook.zero_()
        assert path.read_bytes() == before


@pytest.mark.parametrize("both_names", [True, False])
def test_tied_tensors_stay_tied_whether_the_file_has_one_name_or_both(tmp_path: Path, both_names: bool) -> None:
    state = weights() | ({"out.weight": weights()["table.weight"].clone()} if both_names else {})
    path = upstream(tmp_path / "x.pth.tar", state)
    net = on_meta(tied=True)
    load_into(net, open_checkpoint(path), (*RENAMES_WITH_CODEBOOK, (r"out\.weight", "out.weight")))
    assert net.out.weight is net.embedding.weight
    assert torch.equal(net.out.weight, state["table.weight"])


def test_two_stored_names_may_become_one_if_they_agree(tmp_path: Path) -> None:
    renames = ((r"(table|out)\.weight", "embedding.weight"), *RENAMES_WITH_CODEBOOK[1:])
    state = weights() | {"out.weight": weights()["table.weight"].clone()}
    net = on_meta()
    load_into(net, open_checkpoint(upstream(tmp_path / "x.pth.tar", state)), renames)
    assert torch.equal(net.embedding.weight, state["out.weight"])
    state["out.weight"][0, 0] += 1
    with pytest.raises(CheckpointError, match=r"1 tied but different: table.weight and out.weight"):
        load_into(net, open_checkpoint(upstream(tmp_path / "y.pth.tar", state)), renames)


def test_the_cast_rule_chooses_dtypes_by_our_names(tmp_path: Path) -> None:
    seen = []

    def cast(name: str, tensor: Tensor) -> torch.dtype | None:
        seen.append(name)
        return torch.bfloat16 if name.endswith("weight") else None

    net = loaded(upstream(tmp_path / "x.pth.tar", weights()), on_meta(), cast=cast, device="cpu")
    assert sorted(seen) == sorted(net.state_dict())
    assert net.body[0].weight.dtype == torch.bfloat16
    assert net.body[0].bias.dtype == torch.float32


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_what_is_loaded_keeps_neither_pages_nor_descriptors_of_the_file(
    tmp_path: Path, form: str, dtype: torch.dtype | None
) -> None:
    if not Path("/proc/self/maps").exists():
        pytest.skip("this system has no /proc/self/maps")
    path = tmp_path / "weights-of-the-test"
    if form == "safetensors":
        save_safetensors({name.replace("table", "embedding"): made for name, made in weights().items()}, path)
    else:
        upstream(path, weights(), zipped=form == "zip")
    checkpoint = open_checkpoint(path)
    if form == "safetensors":
        checkpoint = replace(checkpoint, own_names=False)
    net, descriptors, mapped = on_meta(), [], []

    def cast(_name: str, _: Tensor) -> torch.dtype | None:
        descriptors.append(len([*Path("/proc/self/fd").iterdir()]))
        mapped.append(Path("/proc/self/maps").read_text().count(path.name))
        return dtype

    load_into(net, checkpoint, (*RENAMES_WITH_CODEBOOK, (r"embedding\.weight", "embedding.weight")), cast=cast)
    assert len(descriptors) == 6
    assert len(set(descriptors)) == 1  # no more of them with every tensor
    assert len(set(mapped)) == 1
    del checkpoint
    assert path.name not in Path("/proc/self/maps").read_text()
    assert torch.equal(net.codebook, weights()["codebook"].to(dtype or torch.float32))


def test_all_mismatches_are_in_one_error_and_nothing_is_loaded(tmp_path: Path) -> None:
    state = weights()
    state["body.7.w"] = torch.zeros(1)
    state["stray"] = torch.zeros(1)
    state["codebook"] = torch.zeros(3, 4)
    del state["body.0.b"]
    net = on_meta()
    with pytest.raises(CheckpointError) as caught:
        loaded(upstream(tmp_path / "x.pth.tar", state), net)
    message = str(caught.value)
    assert "1 missing: body.0.bias" in message
    assert "2 left over: body.7.w, stray" in message
    assert "1 of another shape: codebook is [3, 4] but codebook is [3, 6]" in message
    assert "level=2, prior_width=6" in message
    assert all(tensor.is_meta for tensor in net.state_dict().values())


def test_another_model_is_named_by_its_first_few_shapes(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"6 of another shape: .* and 1 more.*prior_width=6"):
        loaded(upstream(tmp_path / "x.pth.tar", weights()), on_meta(width=8))


class Bomb:
    """Touches a file if it is unpickled by a reader that runs code in a pickle."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain"])
def test_code_in_a_pickle_is_refused_and_never_runs(tmp_path: Path, form: str) -> None:
    target, path = tmp_path / "ran", tmp_path / "x.pth.tar"
    if form == "plain":
        path.write_bytes(pickle.dumps({"model": Bomb(target)}))
    else:
        upstream(path, weights() | {"bomb": Bomb(target)}, zipped=form == "zip")
    with pytest.raises(CheckpointError, match="holds code"):
        open_checkpoint(path)
    assert not target.exists()
    pickle.loads(pickle.dumps(Bomb(target)))  # the bomb is live
    assert target.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path, zipped: bool) -> None:
    whole = upstream(tmp_path / "x.pth.tar", weights(), zipped=zipped).read_bytes()
    path = tmp_path / "cut.pth.tar"
    for length in {*range(20, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="fetch it again"):
            open_checkpoint(path)


def test_a_truncated_safetensors_file_is_refused(tmp_path: Path) -> None:
    save_safetensors(weights(), tmp_path / "x.safetensors")
    whole = (tmp_path / "x.safetensors").read_bytes()
    for length in (4, 60, len(whole) - 1):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="fetch it again"):
            open_checkpoint(tmp_path / "cut")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html><body>Not found</body></html>", "is a web page"),
        (b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a text file that begins 'version https"),
        (b"\x00\x01\x02\x03" * 50, "no checkpoint"),
        (b"PK\x03\x04" + bytes(100), "truncated or no archive"),
        (pickle.dumps([1, 2, 3]), "a pickle but not a checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.pth.tar"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist; fetch the model"):
        open_checkpoint(tmp_path / "none.pth.tar")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"epoch": 3, "weights": {}}, "a dict of epoch, weights; a checkpoint is a dict of tensors"),
        ({"epoch": 3, "state_dict": {}}, "'state_dict' holds nothing"),
        (torch.zeros(3), "holds <class"),
        ({"model": {"a": 1}}, "'model' holds a"),
        ({"model": {}}, "'model' holds nothing"),
    ],
)
def test_a_torch_file_of_another_structure_is_refused(tmp_path: Path, content: Any, words: str, zipped: bool) -> None:
    torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", [None, "state_dict"])
def test_weights_may_be_the_whole_object_or_the_state_of_lightning(
    tmp_path: Path, key: str | None, zipped: bool
) -> None:
    state = weights("module.")
    torch.save({key: state} if key else state, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
    assert torch.equal(loaded(tmp_path / "x.pt", on_meta()).codebook, weights()["codebook"])


def test_objects_beside_the_weights_of_lightning_are_ignored_and_never_run(tmp_path: Path) -> None:
    trap, path = tmp_path / "trap", tmp_path / "x.ckpt"
    settings = {"lr": 0.1, "manager": Bomb(trap), "seen": {1, 2}, "when": Path("a")}
    content = {"state_dict": weights(), "pytorch-lightning_version": "2.0.9", "hyper_parameters": settings}
    torch.save(content, path)
    assert torch.equal(loaded(path, on_meta()).codebook, weights()["codebook"])
    torch.save({**content, "state_dict": {"a": Bomb(trap)}}, path)
    with pytest.raises(CheckpointError, match="'state_dict' holds a"):
        open_checkpoint(path)
    assert not trap.exists()


def test_a_tensor_that_reaches_outside_its_storage_is_damage(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"model": {"a": torch.zeros(21)}}, buffer, _use_new_zipfile_serialization=False)
    assert buffer.getvalue().count(b"K\x15\x85") == 1  # the tensor's size, a tuple of the one-byte integer 21
    (tmp_path / "x.pt").write_bytes(buffer.getvalue().replace(b"K\x15\x85", b"K\x16\x85"))
    with pytest.raises(CheckpointError, match="reaches outside its storage"):
        open_checkpoint(tmp_path / "x.pt")


def test_an_archive_whose_storages_do_not_fit_its_index_is_damage(tmp_path: Path) -> None:
    whole = upstream(tmp_path / "x.pth.tar", weights())
    for name, change in (("data/0", None), ("data/0", b"short"), ("byteorder", b"big")):
        path = tmp_path / "changed.pth.tar"
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w") as target:
            for member in source.namelist():
                if not member.endswith(name):
                    target.writestr(member, source.read(member))
                elif change is not None:
                    target.writestr(member, change)
        with pytest.raises(CheckpointError, match="fetch it again"):
            open_checkpoint(path)


def test_a_compressed_archive_is_refused(tmp_path: Path) -> None:
    whole, path = upstream(tmp_path / "x.pth.tar", weights()), tmp_path / "packed.pth.tar"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.namelist():
            target.writestr(member, source.read(member))
    with pytest.raises(CheckpointError, match="no archive of torch"):
        open_checkpoint(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_safetensors_keep_values_dtypes_ties_and_metadata(tmp_path: Path, dtype: torch.dtype) -> None:
    net = Net(tied=True).to(dtype)
    metadata = {"hps": {"level": 1, "downs": [3, 2]}, "name": "mini", "steps": 9}
    save_safetensors(net, tmp_path / "deep" / "net.safetensors", metadata)
    checkpoint = open_checkpoint(tmp_path / "deep" / "net.safetensors")
    assert checkpoint.metadata == metadata
    assert sorted(checkpoint.tensors) == sorted(set(net.state_dict()) - {"out.weight"})
    copy = on_meta(tied=True)
    load_into(copy, checkpoint, RENAMES)  # a table for upstream's names does not apply to our own
    assert copy.out.weight is copy.embedding.weight
    for name, tensor in net.state_dict().items():
        assert torch.equal(copy.state_dict()[name], tensor)
        assert copy.state_dict()[name].dtype == tensor.dtype


def test_safetensors_are_readable_by_others_and_aligned(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    state = {"a": torch.tensor([1, 2, 3], dtype=torch.uint8), "b": torch.ones(2, 2).T, "c": torch.tensor(5)}
    save_safetensors(state, tmp_path / "x.safetensors", {})
    read = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())
    head = (tmp_path / "x.safetensors").read_bytes()
    size = int.from_bytes(head[:8], "little")
    assert size % 8 == 0
    offsets = {
        name: entry["data_offsets"][0] for name, entry in json.loads(head[8 : 8 + size]).items() if name in state
    }
    assert all(offset % state[name].element_size() == 0 for name, offset in offsets.items())


def test_a_foreign_safetensors_file_is_renamed_like_any_other(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(weights(), tmp_path / "x.safetensors", metadata={"format": "pt"})
    assert open_checkpoint(tmp_path / "x.safetensors").metadata == {"format": "pt"}
    net = loaded(tmp_path / "x.safetensors", on_meta())
    assert torch.equal(net.codebook, weights()["codebook"])


def test_a_failed_save_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    save_safetensors(weights(), path)
    before = path.read_bytes()

    def no_disk(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", no_disk)
    with pytest.raises(OSError, match="disk full"):
        save_safetensors(weights(half=True), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize(("header", "start"), [(0x180, b"\x80"), (0x4B50, b"PK")])
def test_a_safetensors_file_may_begin_like_another(tmp_path: Path, header: int, start: bytes) -> None:
    """Its first bytes are the length of its header."""
    path = tmp_path / "one.safetensors"
    save_file({"a": torch.ones(2)}, path, {"padding": ""})
    short = int.from_bytes(path.read_bytes()[:8], "little")
    save_file({"a": torch.ones(2)}, path, {"padding": "x" * (header - short)})
    assert path.read_bytes().startswith(start)
    assert open_checkpoint(path).tensors["a"].equal(torch.ones(2))
