"""Maps the top-level rooms to the `affectline` namespace package; all metadata is in pyproject.toml."""

from setuptools import find_namespace_packages, setup

ROOMS = ("server", "pipelines", "models", "protos")

setup(
    package_dir={f"affectline.{room}": room for room in ROOMS},
    packages=[
        f"affectline.{package}"
        for room in ROOMS
        for package in (room, *(f"{room}.{sub}" for sub in find_namespace_packages(room)))
    ],
)
