"""Which model a path means, what else lies there, and files that are not what they should be."""

import json
import os

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from pba_service.domain.errors import ModelRefusedError
from pba_service.runtime import vet
from pba_service.runtime.files import places, preferred, read, write
from pba_service.runtime.folder import LocalFolder
from pba_service.runtime.session import load_model
from tests.unit.runtime import model_files


def documented(scale=1.0, bias=0.0, slots=10, forecast=("n", 1, 4, 1), name="window"):
    """An ONNX file of the documented topology's signature: the newest values, scaled."""
    nodes = [
        helper.make_node("Slice", [name, "start", "end", "axes"], ["last"]),
        helper.make_node("Mul", ["last", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["moved"]),
        helper.make_node("Reshape", ["moved", "shape"], ["forecast"]),
    ]
    constants = {
        "start": np.array([slots - 1, 0], np.int64),
        "end": np.array([slots, 4], np.int64),
        "axes": np.array([1, 2], np.int64),
        "scale": np.float32(scale),
        "bias": np.float32(bias),
        "shape": np.array([-1, *forecast[1:]], np.int64),
    }
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "test",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", slots, 6])],
            [helper.make_tensor_value_info("forecast", TensorProto.FLOAT, list(forecast))],
            [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
        ),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )
    return made.SerializeToString()


def names(path):
    return [place.where.removeprefix(f"{path}/") for place in places(path)]


@pytest.mark.parametrize("inside", ["", "model.onnx"])
def test_a_folder_and_its_onnx_file_mean_the_same(tmp_path, inside):
    folder = model_files.write(tmp_path / "m")
    assert preferred(folder / inside if inside else folder).manifest == folder / "manifest.json"
    assert load_model(folder / inside if inside else folder).info.version == "tiny-1"


@pytest.mark.parametrize(
    ("folders", "chosen"),
    [
        (["pba_lstm", "bandwidth_lstm", "other"], "pba_lstm"),
        (["bandwidth_lstm", "aaa"], "bandwidth_lstm"),
        (["only_one"], "only_one"),
    ],
)
def test_of_several_models_the_preferred_is_taken(tmp_path, folders, chosen):
    for name in folders:
        model_files.write(tmp_path / name)
    (tmp_path / "newest.onnx").write_bytes(b"x")
    assert preferred(tmp_path).where == str(tmp_path / chosen)
    assert names(tmp_path) == [*sorted(folders), "newest.onnx"]


def test_of_onnx_files_alone_the_one_written_last_is_taken(tmp_path):
    for age, name in enumerate(("c", "a", "b")):
        (tmp_path / f"{name}.onnx").write_bytes(b"x")
        os.utime(tmp_path / f"{name}.onnx", (1_000 - age, 1_000 - age))
    (tmp_path / ".hidden.onnx").write_bytes(b"x")
    assert preferred(tmp_path).where == str(tmp_path / "c.onnx")


@pytest.mark.parametrize(("folders", "told"), [([], "no model"), (["a", "b"], "only a, b")])
def test_no_model_to_choose_is_said(tmp_path, folders, told):
    for name in folders:
        model_files.write(tmp_path / name)
    with pytest.raises(ModelRefusedError, match=told):
        preferred(tmp_path)
    assert LocalFolder(tmp_path / "nowhere").scan() == []


def test_a_manifest_may_lie_beside_its_file_under_its_name(tmp_path):
    model_files.write(tmp_path)
    (tmp_path / "model.onnx").rename(tmp_path / "v2.onnx")
    fields = json.loads((tmp_path / "manifest.json").read_text()) | {"model_file": "v2.onnx", "version": "tiny-2"}
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "v2.manifest.json").write_text(json.dumps(fields))
    assert load_model(tmp_path / "v2.onnx").info.version == "tiny-2"
    assert names(tmp_path) == ["v2.onnx"]


def test_an_onnx_file_that_the_manifest_is_not_of_is_refused(tmp_path):
    folder = model_files.write(tmp_path)
    (folder / "other.onnx").write_bytes(b"")
    with pytest.raises(ModelRefusedError, match=r"is of model\.onnx"):
        read(preferred(folder / "other.onnx"))


def test_a_file_dropped_into_a_models_own_folder_is_seen_as_another_model(tmp_path):
    folder = model_files.write(tmp_path)
    (folder / "bandwidth_lstm_v2.onnx").write_bytes(documented())
    seen = LocalFolder(folder).scan()
    assert [found.where for found in seen] == [str(folder), str(folder / "bandwidth_lstm_v2.onnx")]
    assert [found.bare for found in seen] == [False, True]


def test_a_bare_file_of_the_documented_topology_is_proved_and_served(tmp_path):
    (tmp_path / "bandwidth_lstm_v2.onnx").write_bytes(documented(0.9))
    model = load_model(tmp_path / "bandwidth_lstm_v2.onnx")
    assert model.info.name == "bandwidth_lstm_v2"
    assert model.info.version.startswith("bandwidth_lstm_v2-")
    assert (model.info.horizons_ms, model.info.quantile_levels, model.info.window_slots) == ((900_000,), (0.5,), 10)
    window = model_files.window(50.0)[None]
    assert model.predict(window, np.array([60_000]))[0, 0, 0, 0] == pytest.approx(45)


def test_a_long_or_odd_name_becomes_one(tmp_path):
    (tmp_path / "..modèl v2 of some day in the year.onnx").write_bytes(documented())
    info = load_model(tmp_path / "..modèl v2 of some day in the year.onnx").info
    assert info.name == "mod_l_v2_of_some_da"
    assert len(info.version) == 32


@pytest.mark.parametrize(
    ("content", "told", "kind"),
    [
        (documented(0.001), "must read and answer raw units", "golden"),
        (documented(0.0, 0.5), "must read and answer raw units", "golden"),
        (documented(float("nan")), "no number", "golden"),
        (documented(forecast=("n", 4)), "do not say what they mean", "signature"),
        (documented(name="input_1"), "do not say what they mean", "signature"),
        (model_files.graph(), "do not say what they mean", "signature"),
        (documented()[:-20], "it is no ONNX file", "limits"),
        (b"", "it is empty", "limits"),
        (b"\0" * 100, "it is no ONNX file", "limits"),
    ],
)
def test_a_bare_file_that_is_something_else_is_refused_with_the_reason(tmp_path, content, told, kind):
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelRefusedError, match=told) as refused:
        load_model(tmp_path / "m.onnx")
    assert refused.value.kind == kind


def test_links_are_followed_and_what_leads_nowhere_is_said(tmp_path):
    folder = model_files.write(tmp_path / "..data" / "m")
    (tmp_path / "m").symlink_to(folder)
    assert load_model(tmp_path / "m").info.version == "tiny-1"
    (tmp_path / "lost.onnx").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ModelRefusedError, match="cannot be read: No such file"):
        load_model(tmp_path / "lost.onnx")
    (tmp_path / "loop.onnx").symlink_to(tmp_path / "loop.onnx")
    with pytest.raises(ModelRefusedError, match="cannot be read"):
        load_model(tmp_path / "loop.onnx")
    assert names(tmp_path) == ["m", "loop.onnx", "lost.onnx"]


def test_a_pipe_or_a_folder_in_place_of_a_file_does_not_hold_anybody_up(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "folder.onnx").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(ModelRefusedError, match=r"no regular file|Is a directory"):
            load_model(tmp_path / f"{name}.onnx")


def test_a_huge_file_is_not_read(tmp_path):
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(vet.MAX_ONNX_BYTES * 40)  # takes no room on the disk, and would take 10 GB of memory
    with pytest.raises(ModelRefusedError, match="more than 268,435,456 bytes"):
        load_model(tmp_path / "huge.onnx")


def test_a_stamp_changes_with_any_file_of_the_model(tmp_path):
    folder = LocalFolder(tmp_path)
    model_files.write(tmp_path / "m")
    stamps = [folder.scan()[0].stamp]
    (tmp_path / "m" / "model.onnx").write_bytes(model_files.graph(2.0))
    stamps.append(folder.scan()[0].stamp)
    (tmp_path / "new").write_text((tmp_path / "m" / "manifest.json").read_text())
    (tmp_path / "new").rename(tmp_path / "m" / "manifest.json")
    stamps.append(folder.scan()[0].stamp)
    (tmp_path / "m" / "model.onnx").unlink()
    stamps.append(folder.scan()[0].stamp)
    assert len(set(stamps)) == 4


def test_of_several_models_none_may_be_meant(tmp_path):
    for name in ("a", "b"):
        model_files.write(tmp_path / name)
    assert [one.meant for one in LocalFolder(tmp_path).scan()] == [False, False]
    model_files.write(tmp_path / "pba_lstm")
    assert [(one.where, one.meant) for one in LocalFolder(tmp_path).scan()] == [
        (str(tmp_path / "pba_lstm"), True),
        (str(tmp_path / "a"), False),
        (str(tmp_path / "b"), False),
    ]


def test_a_model_that_cannot_be_written_whole_leaves_the_one_before(tmp_path):
    write(tmp_path, {"model.onnx": b"old", "manifest.json": b"of old"})
    (tmp_path / ".manifest.json.partial").mkdir()  # nothing can be written there
    with pytest.raises(OSError, match="directory"):
        write(tmp_path, {"model.onnx": b"new", "manifest.json": b"of new"})
    assert (tmp_path / "model.onnx").read_bytes() == b"old"
    assert (tmp_path / "manifest.json").read_bytes() == b"of old"
    assert not (tmp_path / ".model.onnx.partial").exists()
