"""Generates what `shop-protos` consists of: message classes, gRPC stubs and their types, from the .proto files.

It runs as a hatch build hook for a wheel and for an editable install, and as a program (`buildscripts/protos`).
Everything lands below `build/`, which is never committed:

    build/gen/shop      the packages `shop.<name>.v1`, and `descriptors.binpb`: all files as one FileDescriptorSet, with
                        the comments, which the classes do not have (OpenAPI is made from them, `buf lint` reads them)
    build/gen/buf       `buf.validate.validate_pb2`, the options that our files use. protovalidate ships them for Buf's
                        protobuf runtime alone, and google's needs them to know the options. `buf` stays a namespace
                        package, so another distribution can add packages to it.
    build/typing        types of the google packages that our types refer to and that come without; for mypy here only
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilderConfig
from protovalidate import ViolationPb

_VALIDATE = "buf/validate/validate.proto"


class ProtosBuildHook(BuildHookInterface[WheelBuilderConfig]):
    """Generates before each build, and puts the result into the wheel; an editable install refers to `build/gen`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        generate(Path(self.root))
        if version != "editable":
            gen = Path(self.root, "build/gen")
            build_data["force_include"] |= {str(path): path.name for path in gen.iterdir()}


def generate(root: Path) -> None:
    """Replace `root`/build/gen and `root`/build/typing by what the .proto files below `root`/shop say now.

    Raises:
        subprocess.CalledProcessError: protoc refused a file; it has printed why.
    """
    protos = sorted(path.relative_to(root).as_posix() for path in root.glob("shop/*/v*/*.proto"))
    build = root / "build"
    build.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=build) as temporary:
        work = Path(temporary)
        gen, typing = work / "gen", work / "typing"
        gen.mkdir()
        typing.mkdir()
        rules = work / "validate.binpb"
        rules.write_bytes(_descriptors_of_rules().SerializeToString())
        sources = [f"--descriptor_set_in={rules}", f"-I{root}", f"-I{_google()}", f"-I{_well_known()}"]
        _protoc(
            *sources,
            f"--python_out={gen}",
            f"--grpc_python_out={gen}",
            f"--plugin={_plugin('protoc-gen-mypy')}",
            f"--plugin={_plugin('protoc-gen-mypy_grpc')}",
            f"--mypy_out=quiet:{gen}",
            f"--mypy_grpc_out=quiet,only_async:{gen}",
            *protos,
        )
        _protoc(
            *sources,
            f"--python_out={gen}",
            f"--plugin={_plugin('protoc-gen-mypy')}",
            f"--mypy_out=quiet:{gen}",
            _VALIDATE,
        )
        descriptors = gen / "shop/descriptors.binpb"
        _protoc(*sources, "--include_imports", "--include_source_info", f"--descriptor_set_out={descriptors}", *protos)
        _protoc(
            *sources,
            f"--plugin={_plugin('protoc-gen-mypy')}",
            f"--mypy_out=quiet:{typing}",
            *_google_files(descriptors),
        )
        for package in gen.glob("shop/**/"):
            (package / "__init__.py").touch()
        (gen / "shop/py.typed").touch()
        (gen / "buf/validate/py.typed").touch()
        for path in (gen, typing):
            shutil.rmtree(build / path.name, ignore_errors=True)
            path.rename(build / path.name)


def _descriptors_of_rules() -> FileDescriptorSet:
    """validate.proto and what it imports. protovalidate ships no .proto file, but its classes know theirs."""
    files = FileDescriptorSet()

    def add(file: Any) -> None:
        for dependency in file.dependencies:
            add(dependency)
        if all(file.proto.name != known.name for known in files.file):
            files.file.add().ParseFromString(file.proto.to_binary())

    add(ViolationPb.desc().file)
    return files


def _google_files(descriptors: Path) -> Iterable[str]:
    """The files of google/api and google/type that ours import, and google/rpc, which every gRPC service needs."""
    files = FileDescriptorSet.FromString(descriptors.read_bytes()).file
    yield from (file.name for file in files if file.name.startswith(("google/api/", "google/type/")))
    yield from (path.relative_to(_google()).as_posix() for path in sorted(_google().glob("google/rpc/*.proto")))


def _google() -> Path:
    """The import root of googleapis-common-protos."""
    return _origin("google.api.annotations_pb2").parents[2]


def _well_known() -> Path:
    """The import root of google/protobuf/*.proto."""
    return _origin("grpc_tools").parent / "_proto"


def _origin(module: str) -> Path:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(module)
    return Path(spec.origin)


def _plugin(name: str) -> Path:
    """The script of mypy-protobuf in whichever environment this runs in: a build's own, or one that is not on PATH."""
    files = distribution("mypy-protobuf").files or []
    return next(Path(str(file.locate())).resolve() for file in files if file.name == name)


def _protoc(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)


if __name__ == "__main__":
    try:
        generate(Path(__file__).resolve().parent)
    except subprocess.CalledProcessError:
        sys.exit(1)
