"""What goes into the wheel: the library, and the page's two folders as data below it, for `come app` to start.

All else is in pyproject.toml. In a checkout app/ and pages/ stay where they are, and nothing called `app` is
installed beside other people's packages.
"""

from setuptools import find_namespace_packages, find_packages, setup

FOLDERS = [*find_packages(include=["app", "app.*"]), *find_namespace_packages(include=["pages"])]

setup(
    packages=[*find_packages(include=["come", "come.*"]), *(f"come.page.{name}" for name in FOLDERS)],
    package_dir={f"come.page.{name}": name.replace(".", "/") for name in FOLDERS},
    package_data={
        "come.evaluate": ["questions/*.jsonl"],
        "come.report.html": ["page.css", "draw.js"],
        "come.page.app": [".streamlit/*", "static/*", "example/**/*"],
        "come.page.app.learn": ["values/*"],
    },
)
