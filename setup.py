"""Packaging of recbole-evcf; the folder ``properties`` is installed inside the package."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
# Read and not imported, which would take what is to be installed.
INIT = (HERE / "recbole_evcf" / "__init__.py").read_text(encoding="utf-8")
VERSION = re.search(r'^__version__ = "(.+)"$', INIT, flags=re.M)[1]


def description() -> str:
    """The README as a package index shows it, where no file lies beside it: without its pictures,
    and with the words of its relative links alone."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"^!\[[^]]*\]\((?!https?:)[^)]*\)\n\n", "", text, flags=re.M)
    return re.sub(r"\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", text)


# Ray Tune needs pyarrow, which ray itself does not ask for. RecBole 1.2.1 admits no newer ray.
TUNE = [
    "hyperopt>=0.2.7",
    "pyarrow>=14",
    "ray>=2.6.3,<2.7; python_version < '3.12'",
    "ray[tune]>=2.50; python_version >= '3.12'",
]

APP = ["fastapi>=0.115", "uvicorn>=0.30"]

setup(
    name="recbole-evcf",
    version=VERSION,
    description="VampPrior, hierarchical and gated variational autoencoders for RecBole",
    long_description=description(),
    long_description_content_type="text/markdown",
    license_expression="MIT",
    license_files=["LICENSE"],
    keywords="recommender collaborative-filtering variational-autoencoder vampprior recbole",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=[
        *find_packages(include=["recbole_evcf", "recbole_evcf.*"]),
        "recbole_evcf.properties",
    ],
    package_dir={"recbole_evcf.properties": "properties"},
    package_data={
        "recbole_evcf.properties": ["*/*.yaml", "*/*/*.yaml", "*/*.hyper"],
        "recbole_evcf.app": ["page.html"],
        "recbole_evcf.inspection": ["prose.yaml"],
        "recbole_evcf.report": ["page.html.jinja"],
    },
    python_requires=">=3.10",
    install_requires=[
        # pip takes 1.2.1 on Python 3.10 and 3.11, and 1.2.0 on later ones: 1.2.1 asks for a ray
        # that has no wheel for them.
        "recbole>=1.2.0,<1.3",
        "torch>=2.6",
        "numpy>=1.26",
        "scipy>=1.11",
        "pandas>=2.0",
        "pyyaml>=6.0",
        # 3.21 sees that the file it has locked was removed.
        "filelock>=3.21",
        # Tables and pages.
        "jinja2>=3.1",
        "plotly>=5.10",
        "tabulate>=0.9",
        # What RecBole 1.2.0 imports without asking for it.
        "kmeans-pytorch>=0.3",
        "psutil>=5.9",
        # thop, which RecBole imports, needs its distutils on Python 3.12 and later; ray 2.6.3 needs
        # pkg_resources, which setuptools 81 no longer has.
        "setuptools<81",
    ],
    extras_require={
        "tune": TUNE,
        # The page and the API of the command app.
        "app": APP,
        # recommend: Parquet files.
        "parquet": ["pyarrow>=14"],
        # export: onnxscript is what PyTorch's exporter needs.
        "export": ["onnx>=1.17", "onnxscript>=0.3"],
        # The site: mkdocs build --strict.
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"],
        "test": [
            "build>=1.2",
            "pytest>=7",
            "pytest-xdist>=3",
            *TUNE,
            *APP,
            # Drives a browser on the page of the command app.
            "websockets>=15",
            "hypothesis>=6",
            # A second reader of WMF's user vectors.
            "implicit>=0.7",
            "markdown-it-py>=3",
            "ipykernel>=6",
            "mypy>=1.11",
            "nbclient>=0.10",
            "onnx>=1.17",
            "onnxruntime>=1.20",
            "onnxscript>=0.3",
            "ruff==0.17.6",
            "twine>=6.1",
        ],
    },
    entry_points={"console_scripts": ["recbole-evcf=recbole_evcf.cli:main"]},
)
