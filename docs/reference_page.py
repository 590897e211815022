"""The reference of the contract, docs/reference.md, from the comments in protos/: make docs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf import descriptor_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOS = Path(__file__).parents[1] / "protos"

_HEAD = """# Reference of the contract

Made from the comments in [`protos/pba/v1`](../protos/pba/v1) by `make docs`. Times are
`google.protobuf.Timestamp`, spans `google.protobuf.Duration`; an optional field that is not set is not known.
[Integration](integration.md) shows calls in Python, Go and Node.
"""
_KINDS = {number: name.removeprefix("TYPE_").lower() for name, number in pb.FieldDescriptorProto.Type.items()}


def page() -> str:
    """The whole page."""
    files = [file for file in _descriptors().file if file.name.startswith("pba/")]
    services = [(file, i) for file in files for i in range(len(file.service))]
    parts = [_HEAD]
    parts += [_service(file, i) for file, i in services]
    parts.append("## Messages\n")
    parts += [section for file in files for section in _messages(file)]
    parts.append("## Enumerations\n")
    parts += [section for file in files for section in _enums(file)]
    return "\n".join(parts)


def _descriptors() -> pb.FileDescriptorSet:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "all"
        names = [str(path.relative_to(PROTOS)) for path in sorted(PROTOS.glob("pba/v1/*.proto"))]
        # a process of its own: in one that uses gRPC the compiler's library crashes
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", "--include_source_info"]
        subprocess.run([*command, f"--descriptor_set_out={out}", *names], check=True)
        return pb.FileDescriptorSet.FromString(out.read_bytes())


def _comment(file: pb.FileDescriptorProto, *path: int) -> str:
    for location in file.source_code_info.location:
        if tuple(location.path) == path:
            words = location.leading_comments.split("buf:lint:ignore")[0].split()
            return " ".join(words)
    return ""


def _service(file: pb.FileDescriptorProto, place: int) -> str:
    service = file.service[place]
    lines = [f"## {service.name}\n", _comment(file, 6, place) + "\n"]
    for i, method in enumerate(service.method):
        asks = ("stream " if method.client_streaming else "") + _name(method.input_type)
        answers = ("stream " if method.server_streaming else "") + _name(method.output_type)
        lines.append(f"### {service.name}.{method.name}\n")
        lines.append(f"`{asks}` → `{answers}`\n")
        lines.append(_comment(file, 6, place, 2, i) + "\n")
    return "\n".join(lines)


def _messages(file: pb.FileDescriptorProto) -> Iterator[str]:
    for i, message in enumerate(file.message_type):
        yield from _message(file, message, message.name, (4, i))


def _message(
    file: pb.FileDescriptorProto, message: pb.DescriptorProto, name: str, path: tuple[int, ...]
) -> Iterator[str]:
    lines = [f"### {name}\n", _comment(file, *path) + "\n"]
    if message.field:
        lines += ["| field | type | |", "|---|---|---|"]
        for i, field in enumerate(message.field):
            text = _comment(file, *path, 2, i).replace("|", "\\|")
            lines.append(f"| `{field.name}` | {_type(field)} | {text} |")
        lines.append("")
    yield "\n".join(lines)
    for i, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _message(file, nested, f"{name}.{nested.name}", (*path, 3, i))
    for i, enum in enumerate(message.enum_type):
        yield _enum(file, enum, f"{name}.{enum.name}", (*path, 4, i))


def _enums(file: pb.FileDescriptorProto) -> Iterator[str]:
    for i, enum in enumerate(file.enum_type):
        yield _enum(file, enum, enum.name, (5, i))


def _enum(file: pb.FileDescriptorProto, enum: pb.EnumDescriptorProto, name: str, path: tuple[int, ...]) -> str:
    rows = [
        f"| `{value.name}` = {value.number} | {_comment(file, *path, 2, i)} |" for i, value in enumerate(enum.value)
    ]
    return "\n".join([f"### {name}\n", _comment(file, *path) + "\n", "| value | |", "|---|---|", *rows, ""])


def _type(field: pb.FieldDescriptorProto) -> str:
    kind = f"`{_name(field.type_name)}`" if field.type_name else _KINDS[field.type]
    if field.label == pb.FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {kind}"
    return f"optional {kind}" if field.proto3_optional else kind


def _name(full: str) -> str:
    return full.removeprefix(".pba.v1.").removeprefix(".google.protobuf.")


if __name__ == "__main__":
    Path(__file__).with_name("reference.md").write_text(page())
